package verifiers_test

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"phantomtoken/internal/policy"
)

// Every example of caller authentication in docs/sidecar.md can stand in a policy file.
func TestAuthenticationExamples(t *testing.T) {
	n := 0
	for _, b := range blocks(t, sidecarDocument) {
		if b.name != "authentication" {
			continue
		}
		n++
		var indented strings.Builder
		for line := range strings.Lines(b.text) {
			indented.WriteString("      " + line)
		}
		whole := strings.Replace(string(readFile(t, "callers/policy.yaml")), "      secret_variables: [MCP_SERVER_SECRET]\n", indented.String(), 1)
		if _, err := policy.Parse([]byte(whole)); err != nil || !strings.Contains(whole, b.text[:10]) {
			t.Errorf("%v in the policy with\n%s", err, b.text)
		}
	}
	if n < 5 {
		t.Errorf("got %d examples, want one for each way", n)
	}
}

// manifest is what the tests read of Kubernetes and Compose documents.
type manifest struct {
	Kind string
	Data map[string]string
	Spec struct {
		Template struct {
			Spec struct {
				SecurityContext struct {
					RunAsNonRoot bool `yaml:"runAsNonRoot"`
				} `yaml:"securityContext"`
				InitContainers []container `yaml:"initContainers"`
				Containers     []container
			}
		}
	}
	Services map[string]struct {
		Environment map[string]string
		ReadOnly    bool `yaml:"read_only"`
	}
}

type container struct {
	Name            string
	Env             []struct{ Name, Value string }
	SecurityContext struct {
		ReadOnly bool `yaml:"readOnlyRootFilesystem"`
		Escalate bool `yaml:"allowPrivilegeEscalation"`
	} `yaml:"securityContext"`
	Liveness  probe `yaml:"livenessProbe"`
	Readiness probe `yaml:"readinessProbe"`
}

type probe struct {
	HTTPGet struct{ Path string } `yaml:"httpGet"`
}

// What docs/sidecar.md sets in a pod, in Compose and for systemd is accepted by the sidecar.
func TestDeploymentExamples(t *testing.T) {
	sidecar := filepath.Join(t.TempDir(), "sidecar")
	build(t, sidecar, "phantomtoken/sidecar")
	documented := map[string]string{}
	for _, b := range blocks(t, sidecarDocument) {
		documented[b.name] = b.text
	}
	standard := string(readFile(t, "callers/policy.yaml"))

	t.Run("systemd", func(t *testing.T) {
		checkSettings(t, sidecar, standard, strings.Split(strings.TrimSpace(documented["token-exchange.env"]), "\n"))
	})
	t.Run("Kubernetes", func(t *testing.T) {
		var pod, config *manifest
		for _, m := range decode(t, documented["pod.yaml"]) {
			switch m.Kind {
			case "Deployment":
				pod = m
			case "ConfigMap":
				config = m
			}
		}
		if pod == nil || config == nil || len(pod.Spec.Template.Spec.InitContainers) != 1 {
			t.Fatal("expected a Deployment with one init container and a ConfigMap")
		}
		if !pod.Spec.Template.Spec.SecurityContext.RunAsNonRoot {
			t.Error("the pod may run as root")
		}
		for _, c := range slices.Concat(pod.Spec.Template.Spec.InitContainers, pod.Spec.Template.Spec.Containers) {
			if !c.SecurityContext.ReadOnly || c.SecurityContext.Escalate {
				t.Errorf("container %s: expected a read-only root and no escalation", c.Name)
			}
		}
		beside := pod.Spec.Template.Spec.InitContainers[0]
		if beside.Liveness.HTTPGet.Path != "/healthz" || beside.Readiness.HTTPGet.Path != "/readyz" {
			t.Errorf("got probes %q and %q, want /healthz and /readyz", beside.Liveness.HTTPGet.Path, beside.Readiness.HTTPGet.Path)
		}
		var env []string
		for _, e := range beside.Env {
			env = append(env, e.Name+"="+e.Value)
		}
		checkSettings(t, sidecar, config.Data["policy.yaml"], env)
	})
	t.Run("Compose", func(t *testing.T) {
		all := decode(t, documented["compose.yaml"])
		if len(all) != 1 || !all[0].Services["token-exchange"].ReadOnly {
			t.Fatal("expected a service token-exchange with a read-only root")
		}
		var env []string
		for name, value := range all[0].Services["token-exchange"].Environment {
			env = append(env, name+"="+value)
		}
		checkSettings(t, sidecar, standard, env)
	})
}

func decode(t *testing.T, text string) []*manifest {
	t.Helper()
	var out []*manifest
	in := yaml.NewDecoder(strings.NewReader(text))
	for {
		m := &manifest{}
		switch err := in.Decode(m); {
		case errors.Is(err, io.EOF):
			return out
		case err != nil:
			t.Fatal(err)
		}
		out = append(out, m)
	}
}

// checkSettings has the sidecar check settings, with files of this test in the place of those
// that they name.
func checkSettings(t *testing.T, sidecar, policy string, env []string) {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	certificate, key := selfSigned(t)
	here := strings.NewReplacer(
		"/etc/token-exchange/policy.yaml", write("policy.yaml", policy),
		"/run/tls/tls.crt", write("tls.crt", certificate),
		"/run/tls/tls.key", write("tls.key", key),
		"/var/lib/token-exchange", dir,
		"/run/token-exchange", dir,
		"${MCP_SERVER_SECRET:?at least 16 random bytes}", secret, // as Compose does
	)
	cmd := exec.CommandContext(t.Context(), sidecar, "-check")
	for _, e := range env {
		cmd.Env = append(cmd.Env, here.Replace(e))
	}
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "the settings are good") {
		t.Errorf("%v\n%s", err, out)
	}
}
