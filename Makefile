# Needs Go and make; what needs more says so. `make` alone says what there is.

GO       ?= go
ARGS     ?=
FUZZTIME ?= 10s
KEYS     ?= .demo

# The race detector needs a C compiler; without one the tests run without it.
RACE := $(shell command -v $$($(GO) env CC | cut -d' ' -f1) >/dev/null 2>&1 && echo -race)

# Static programs that run in any image and name no folder of this machine.
BUILD := CGO_ENABLED=0 $(GO) build -trimpath

.DEFAULT_GOAL := help
.PHONY: help build demo test check promises test-keycloak mcp-clients keycloak test-oidc-provider test-verifiers bench fuzz keys clean up down logs env check-deploy release-check

help: ## say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build bin/phantom-token (Kong plugin) and bin/token-exchange-sidecar
	$(BUILD) -o bin/phantom-token ./kong-plugin
	$(BUILD) -o bin/token-exchange-sidecar ./sidecar

demo: build ## run the whole chain and show each step; ARGS=-serve stays up
	$(BUILD) -o bin/demo ./testenv/demo
	@exec bin/demo -bin bin $(ARGS)

test: check promises ## run all checks and tests, one line for each promise
	@echo "== tests"
	$(GO) test $(RACE) ./...

check:
	@echo "== go vet"
	$(GO) vet ./...
	@echo "== gofmt"
	@unformatted="$$(gofmt -l .)"; if [ -n "$$unformatted" ]; then echo "not formatted: $$unformatted"; exit 1; fi
	@echo "== staticcheck"
	$(GO) tool staticcheck ./...

# The lines of the subtests, each a promise in words, and all of the output when one fails.
promises:
	@echo "== promises"
	@[ -n "$(RACE)" ] || echo "no C compiler: the tests run without the race detector"
	@out="$$($(GO) test $(RACE) -count=1 -v -run '^TestPromise' ./testenv 2>&1)" && ok=yes || ok=no; \
	if [ $$ok = no ]; then printf '%s\n' "$$out"; fi; \
	printf '%s\n' "$$out" | sed -nE 's/^ *--- (PASS|FAIL|SKIP): TestPromises\/(.*) \(.*\)$$/\1  \2/p' | tr '_' ' '; \
	[ $$ok = yes ]

# The real thing: what needs Java, Maven, Chromium, Node and Python. The clients are installed
# by make mcp-clients; whether they are is said first. Keycloak is fetched outside of the test, so
# that the time limit counts the test alone. One Keycloak at a time is enough for a machine.
test-keycloak: ## run the chain with a real Keycloak, browser and clients; see docs/keycloak.md
	@echo "== Keycloak"
	@$(GO) run ./testenv/mcpclients/cmd/mcpclients
	$(GO) vet -tags keycloak ./testenv/keycloak/... ./testenv/mcpclients/...
	$(GO) tool staticcheck -tags keycloak ./testenv/keycloak/... ./testenv/mcpclients/...
	$(GO) run ./testenv/keycloak/cmd/keycloak -fetch
	@out="$$($(GO) test -tags keycloak -p 1 -count=1 -timeout 8m -v ./testenv/keycloak ./testenv/mcpclients 2>&1)" && ok=yes || ok=no; \
	if [ $$ok = no ]; then printf '%s\n' "$$out"; fi; \
	printf '%s\n' "$$out" | sed -nE -e 's/^ {4}--- (PASS|FAIL|SKIP): TestKeycloak\/(.*) \(.*\)$$/\1  \2/p' \
	  -e 's/^ {8}--- (PASS|FAIL|SKIP): TestClientsWithKeycloak\/([^\/]*)\/(.*) \(.*\)$$/\1  \2: \3/p' | tr '_' ' '; \
	[ $$ok = yes ]

mcp-clients: ## install the MCP clients of others that test-keycloak runs; needs npm and Python
	@$(GO) run ./testenv/mcpclients/cmd/mcpclients -install

keycloak: ## run a real Keycloak with the sample realm until Ctrl-C; ARGS=-help
	@$(GO) run ./testenv/keycloak/cmd/keycloak $(ARGS)

test-oidc-provider: ## run the chain with npm's oidc-provider; see docs/identity-providers.md
	@echo "== oidc-provider"
	$(GO) vet -tags oidcprovider ./testenv/oidcprovider
	$(GO) tool staticcheck -tags oidcprovider ./testenv/oidcprovider
	@out="$$($(GO) test -tags oidcprovider -count=1 -timeout 4m -v ./testenv/oidcprovider 2>&1)" && ok=yes || ok=no; \
	if [ $$ok = no ]; then printf '%s\n' "$$out"; fi; \
	printf '%s\n' "$$out" | sed -nE 's/^    --- (PASS|FAIL|SKIP): TestOIDCProvider\/(.*) \(.*\)$$/\1  \2/p' | tr '_' ' '; \
	[ $$ok = yes ]

test-verifiers: ## run the programs of the documents for APIs and servers; see docs/upstream-apis.md
	@echo "== verifiers"
	$(GO) vet -tags verifiers ./testenv/verifiers/...
	$(GO) tool staticcheck -tags verifiers ./testenv/verifiers/...
	@out="$$($(GO) test -tags verifiers -count=1 -timeout 4m -v ./testenv/verifiers 2>&1)" && ok=yes || ok=no; \
	if [ $$ok = no ]; then printf '%s\n' "$$out"; fi; \
	printf '%s\n' "$$out" | sed -nE 's/^    --- (PASS|FAIL|SKIP): Test([A-Za-z]+)\/(.*) \(.*\)$$/\1  \2: \3/p' | tr '_' ' '; \
	[ $$ok = yes ]

bench: ## run the benchmarks, each as a ratio to the same work without us
	@$(GO) test -p 1 -run '^$$' -bench . -benchmem ./... | $(GO) run ./testenv/ratio

fuzz: ## run every fuzz target for FUZZTIME (10s)
	@set -e; for pkg in $$($(GO) list ./...); do \
	  listed="$$($(GO) test -list '^Fuzz' $$pkg)"; \
	  for target in $$(printf '%s\n' "$$listed" | grep '^Fuzz' || true); do \
	    echo "== $$pkg $$target"; \
	    $(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$pkg; \
	  done; \
	done

keys: build ## create signing keys in KEYS (.demo), mode 0600, where there are none
	@bin/phantom-token keys -out $(KEYS)/phantom-token.jwk
	@bin/phantom-token keys -out $(KEYS)/sidecar.jwk

env: ## make .env with random secrets for docker-compose.yml, unless there is one
	@deploy/env.sh

up: env ## build and start the stack of docker-compose.yml and wait until it is healthy; needs Docker
	docker compose up --build --detach --wait $(ARGS)
	@echo "MCP server   http://localhost:8000/mcp"
	@echo "users        john.doe@demo.example and jane.roe@demo.example"
	@echo "password     $$(sed -n 's/^DEMO_USER_PASSWORD=//p' .env), DEMO_USER_PASSWORD of .env"

down: ## stop that stack; ARGS=--volumes forgets its keys and data
	docker compose down $(ARGS)

logs: ## follow the logs of that stack; ARGS names services
	docker compose logs --follow $(ARGS)

check-deploy: ## check Dockerfiles, docker-compose.yml and kong.yml without an engine; needs decK and buildah
	@.ci/deploy

release-check: ## build the programs for all platforms twice: same bytes, static, small?
	@$(GO) run ./testenv/release

clean: ## remove what was built and the demonstration's keys
	rm -rf bin .demo
