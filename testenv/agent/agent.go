package agent

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/modelcontextprotocol/go-sdk/oauthex"
)

// Config says who connects to what. URL and Name are required; User and Password are, unless
// Browse is set.
type Config struct {
	URL      string // of the MCP server; everything else is found from there
	Name     string // of the client, for the consent page
	User     string
	Password string

	// Scopes are asked for beside those that the server names.
	Scopes []string
	// Publish puts a client metadata document on the web and returns its https URL, which
	// becomes the client_id (CIMD); the document gets that URL as its client_id. nil: the
	// client registers dynamically (RFC 7591).
	Publish func(document map[string]any) (string, error)
	// Browse signs the user in with a browser of the caller's: it opens the address and
	// returns when the browser has come back to the client. nil: a browser that reads forms
	// and runs no scripts.
	Browse func(ctx context.Context, address string) error
	// Wrap may put something between who sends ("MCP client", "browser") and the network.
	Wrap func(from string, next http.RoundTripper) http.RoundTripper
	// Progress gets the message of each progress notification. It is called one at a time.
	Progress func(message string)
}

// Agent is a connected MCP client. Create it with Connect.
type Agent struct {
	// Session is the MCP session, ready for use.
	Session *mcp.ClientSession

	cfg       Config
	transport *http.Transport
	callback  *callback
	oauth     *auth.AuthorizationCodeHandler
	redirect  url.Values

	mu      sync.Mutex
	browser *browser
	logins  int
}

// Connect connects to the MCP server: it discovers the authorization server, registers,
// has the user sign in and allow it, and opens the session.
func Connect(ctx context.Context, cfg Config) (*Agent, error) {
	a, err := newAgent(cfg)
	if err != nil {
		return nil, fmt.Errorf("preparing MCP client: %w", err)
	}
	client := mcp.NewClient(&mcp.Implementation{Name: cfg.Name, Version: "1.0.0"}, &mcp.ClientOptions{
		ProgressNotificationHandler: func(_ context.Context, req *mcp.ProgressNotificationClientRequest) {
			if cfg.Progress != nil {
				cfg.Progress(req.Params.Message)
			}
		},
	})
	a.Session, err = client.Connect(ctx, &mcp.StreamableClientTransport{
		Endpoint:     cfg.URL,
		HTTPClient:   a.client("MCP client"),
		MaxRetries:   -1, // what goes wrong is to be seen, not smoothed over
		OAuthHandler: a.oauth,
	}, nil)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("connecting MCP client: %w", err), a.release())
	}
	return a, nil
}

func newAgent(cfg Config) (_ *Agent, err error) {
	a := &Agent{cfg: cfg, transport: &http.Transport{Proxy: nil, IdleConnTimeout: 30 * time.Second}}
	if a.browser, err = newBrowser(a.wrap("browser")); err != nil {
		return nil, err
	}
	if a.callback, err = newCallback(); err != nil {
		return nil, err
	}
	handler := &auth.AuthorizationCodeHandlerConfig{
		RedirectURL:              a.callback.url(),
		AuthorizationCodeFetcher: a.fetchCode,
		Client:                   a.client("MCP client"),
		ScopeFilter: func(discovered []string) []string {
			for _, s := range cfg.Scopes {
				if !slices.Contains(discovered, s) {
					discovered = append(discovered, s)
				}
			}
			return discovered
		},
	}
	if cfg.Publish == nil {
		handler.DynamicClientRegistrationConfig = &auth.DynamicClientRegistrationConfig{
			Metadata: &oauthex.ClientRegistrationMetadata{
				ClientName:              cfg.Name,
				RedirectURIs:            []string{a.callback.url()},
				GrantTypes:              []string{"authorization_code"},
				ResponseTypes:           []string{"code"},
				TokenEndpointAuthMethod: "client_secret_post",
			},
		}
	} else {
		id, err := cfg.Publish(map[string]any{
			"client_name":                cfg.Name,
			"redirect_uris":              []string{a.callback.url()},
			"grant_types":                []string{"authorization_code"},
			"response_types":             []string{"code"},
			"token_endpoint_auth_method": "none",
		})
		if err != nil {
			return nil, errors.Join(fmt.Errorf("publishing client metadata: %w", err), a.release())
		}
		handler.ClientIDMetadataDocumentConfig = &auth.ClientIDMetadataDocumentConfig{URL: id}
	}
	if a.oauth, err = auth.NewAuthorizationCodeHandler(handler); err != nil {
		return nil, errors.Join(err, a.release())
	}
	return a, nil
}

// fetchCode is where the SDK opens the browser.
func (a *Agent) fetchCode(ctx context.Context, args *auth.AuthorizationArgs) (*auth.AuthorizationResult, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.logins++
	browse := a.cfg.Browse
	if browse == nil {
		browse = func(ctx context.Context, address string) error {
			return a.browser.authorize(ctx, address, a.cfg.User, a.cfg.Password)
		}
	}
	if err := browse(ctx, args.URL); err != nil {
		return nil, err
	}
	result, err := a.callback.wait(ctx)
	if err != nil {
		return nil, err
	}
	if code := result.Get("error"); code != "" {
		return nil, fmt.Errorf("authorizing: %s: %s", code, result.Get("error_description"))
	}
	a.redirect = result
	return &auth.AuthorizationResult{Code: result.Get("code"), State: result.Get("state"), Iss: result.Get("iss")}, nil
}

func (a *Agent) wrap(from string) http.RoundTripper {
	if a.cfg.Wrap == nil {
		return a.transport
	}
	return a.cfg.Wrap(from, a.transport)
}

func (a *Agent) client(from string) *http.Client { return &http.Client{Transport: a.wrap(from)} }

// Pages are the web pages the user has seen, in order.
func (a *Agent) Pages() []Page {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.browser.pages)
}

// Logins is how often the client sent its user to the browser.
func (a *Agent) Logins() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.logins
}

// RedirectIssuer is the iss of the last redirect (RFC 9207).
func (a *Agent) RedirectIssuer() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.redirect.Get("iss")
}

// Token is the access token the client holds.
func (a *Agent) Token(ctx context.Context) (string, error) {
	source, err := a.oauth.TokenSource(ctx)
	if err != nil || source == nil {
		return "", errors.Join(errors.New("reading access token: the client has none"), err)
	}
	token, err := source.Token()
	if err != nil {
		return "", fmt.Errorf("reading access token: %w", err)
	}
	return token.AccessToken, nil
}

// Call calls a tool and returns the text of its result; refused reports a tool error.
func (a *Agent) Call(ctx context.Context, tool string, arguments map[string]any) (text string, refused bool, err error) {
	params := &mcp.CallToolParams{Name: tool, Arguments: arguments}
	if a.cfg.Progress != nil {
		params.SetProgressToken(tool)
	}
	res, err := a.Session.CallTool(ctx, params)
	if err != nil {
		return "", false, fmt.Errorf("calling tool %s: %w", tool, err)
	}
	var b strings.Builder
	for _, c := range res.Content {
		if t, ok := c.(*mcp.TextContent); ok {
			b.WriteString(t.Text)
		}
	}
	return b.String(), res.IsError, nil
}

// Close ends the session and everything that belongs to it.
func (a *Agent) Close() error {
	return errors.Join(a.Session.Close(), a.release())
}

func (a *Agent) release() error {
	a.transport.CloseIdleConnections()
	return a.callback.server.Close()
}
