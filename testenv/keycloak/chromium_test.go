//go:build keycloak

package keycloak_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"phantomtoken/testenv/agent"
)

// screenshotsVariable names the environment variable with the folder for screenshots. It is
// created when absent; without the variable they are thrown away.
const screenshotsVariable = "KEYCLOAK_SCREENSHOTS"

// chromium is a login as a person sees it: the client opens a browser, and everything else
// happens there until the browser is back at the client.
func chromium(t *testing.T, w *world) {
	folder := os.Getenv(screenshotsVariable)
	if folder == "" {
		folder = t.TempDir()
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	s := &screen{tab: newTab(t), folder: folder}
	var consent, loginError string
	a, err := agent.Connect(t.Context(), agent.Config{
		URL: w.MCPURL, Name: "Stock Assistant",
		Browse: func(_ context.Context, address string) error {
			return s.do(
				chromedp.Navigate(address),
				chromedp.WaitVisible(chromedp.CSS("#username")),
				s.shot("1-login"),
				chromedp.SendKeys(chromedp.CSS("#username"), jane),
				chromedp.SendKeys(chromedp.CSS("#password"), "not her password"),
				chromedp.Click(chromedp.CSS("#kc-login")),
				chromedp.WaitVisible(chromedp.CSS("#input-error-container-username span")),
				read("#input-error-container-username", &loginError),
				s.shot("2-login-refused"),
				chromedp.SendKeys(chromedp.CSS("#password"), w.password),
				chromedp.Click(chromedp.CSS("#kc-login")),
				chromedp.WaitVisible(chromedp.CSS("[name=accept]")),
				read("body", &consent),
				s.shot("3-consent"),
				chromedp.Click(chromedp.CSS("[name=accept]")),
				chromedp.WaitVisible(chromedp.Search(`//p[contains(., "You may close this page")]`)),
				s.shot("4-back-at-the-client"),
			)
		},
	})
	if err != nil {
		t.Fatal(errors.Join(err, s.do(s.shot("stuck"))))
	}
	defer func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	}()
	if !strings.Contains(loginError, "Invalid username or password") {
		t.Errorf("wrong password: the page says %q", loginError)
	}
	for _, want := range []string{"Stock Assistant", "Read stock prices of your region"} {
		if !strings.Contains(consent, want) {
			t.Errorf("consent page: got %q, want %q in it", consent, want)
		}
	}
	text, refused, err := a.Call(t.Context(), "list_stocks", nil)
	if err != nil || refused || !strings.Contains(text, "DUFF") {
		t.Errorf("stocks: got %s, refused %t, %v; want those of Europe", text, refused, err)
	}
	for _, name := range []string{"1-login", "2-login-refused", "3-consent", "4-back-at-the-client"} {
		if info, err := os.Stat(filepath.Join(folder, name+".png")); err != nil || info.Size() < 5_000 {
			t.Errorf("screenshot %s: got %v, %v; want a picture", name, info, err)
		}
	}
}

// newTab starts a headless Chromium, the one in PATH, and returns the context of its tab.
func newTab(t *testing.T) context.Context {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.NoSandbox, // CI runs as root in a container
		chromedp.WindowSize(1024, 768),
		chromedp.Flag("no-proxy-server", true),
		chromedp.Flag("disable-gpu", true),
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-component-update", true),
	)
	ctx, stop := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(stop)
	ctx, end := chromedp.NewContext(ctx)
	t.Cleanup(end)
	return ctx
}

// screen is a tab of a browser, and where pictures of it go.
type screen struct {
	tab    context.Context
	folder string
}

// do does what a person does, within a minute.
func (s *screen) do(steps ...chromedp.Action[chromedp.Void]) error {
	// The first use starts the browser, which must not end with the timeout.
	if err := chromedp.Do(s.tab); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(s.tab, time.Minute)
	defer cancel()
	return chromedp.Do(ctx, steps...)
}

// shot keeps a picture of the page.
func (s *screen) shot(name string) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, tab *chromedp.Target) error {
		png, err := chromedp.CaptureScreenshot()(ctx, tab)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(s.folder, name+".png"), png, 0o644)
	})
}

// read notes the visible text of an element.
func read(selector string, into *string) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, tab *chromedp.Target) (err error) {
		*into, err = chromedp.Text(chromedp.CSS(selector))(ctx, tab)
		return err
	})
}
