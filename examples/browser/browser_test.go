package browser

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/matrix-uia/uia/internal/testenv"
	"github.com/stretchr/testify/require"
)

// chromium runs in allocator; without is why it does not.
var (
	allocator context.Context
	without   error
)

func TestMain(m *testing.M) {
	os.Exit(func() int {
		path, err := exec.LookPath("chromium")
		if err != nil {
			without = err
			return m.Run()
		}
		dir, err := os.MkdirTemp("", "uia-chromium-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		options := append(chromedp.DefaultExecAllocatorOptions[:],
			chromedp.ExecPath(path),
			chromedp.UserDataDir(dir),
			chromedp.NoSandbox, // the tests may run as root
			chromedp.DisableGPU,
			chromedp.Flag("disable-quic", true),
			chromedp.Flag("disable-component-update", true),
			chromedp.Flag("lang", "en-US"),
			chromedp.WSURLReadTimeout(time.Minute),
		)
		var cancel context.CancelFunc
		allocator, cancel = chromedp.NewExecAllocator(context.Background(), options...)
		defer cancel()
		first, cancel := chromedp.NewContext(allocator)
		defer cancel()
		if err := chromedp.Do(first); err != nil { // starts the browser
			fmt.Fprintln(os.Stderr, "chromium:", err)
			return 1
		}
		allocator = first
		return m.Run()
	}())
}

// tab is one tab of the browser.
type tab struct {
	t   *testing.T
	ctx context.Context

	mu       sync.Mutex
	problems []string // what the browser has complained about
}

// newTab opens a tab in a profile of its own. The test fails if the page makes the
// browser complain: about the policy, about a script, about anything.
func newTab(t *testing.T, prepare ...func(*tab)) *tab {
	t.Helper()
	testenv.Need(t, without)
	ctx, cancel := context.WithTimeout(allocator, 2*time.Minute)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx, chromedp.WithNewBrowserContext())
	t.Cleanup(cancel)
	b := attach(t, ctx)
	for _, f := range prepare {
		f(b)
	}
	return b
}

// attach returns the tab of a context of chromedp.
func attach(t *testing.T, ctx context.Context) *tab {
	t.Helper()
	b := &tab{t: t, ctx: ctx}
	require.NoError(t, chromedp.Listen(ctx, func(event any) {
		b.mu.Lock()
		defer b.mu.Unlock()
		switch e := event.(type) {
		case *log.EventEntryAdded:
			if e.Entry.Level == log.EntryLevelError && e.Entry.Source != log.EntrySourceNetwork { // a status is no problem
				b.problems = append(b.problems, e.Entry.Text)
			}
		case *runtime.EventExceptionThrown:
			b.problems = append(b.problems, e.ExceptionDetails.Text)
		case *page.EventJavascriptDialogOpening:
			b.problems = append(b.problems, "dialog: "+e.Message)
			go func() {
				_, _ = chromedp.Call(ctx, page.HandleJavaScriptDialog, page.HandleJavaScriptDialogParams{})
			}()
		}
	}))
	command(b, log.Enable, cdp.Empty{})
	t.Cleanup(func() {
		for _, problem := range b.complaints() {
			t.Error("the browser complains: ", problem)
		}
	})
	return b
}

// complaints returns what the browser has complained about since the last call.
func (b *tab) complaints() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := b.problems
	b.problems = nil
	return out
}

func (b *tab) run(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	require.NoError(b.t, chromedp.Do(b.ctx, actions...))
}

// command sends a command of the protocol.
func command[P, R any](b *tab, c cdp.Command[P, R], params P) R {
	b.t.Helper()
	result, err := chromedp.Call(b.ctx, c, params)
	require.NoError(b.t, err)
	return result
}

// visit opens a page.
func (b *tab) visit(url string) {
	b.t.Helper()
	b.run(chromedp.Navigate(url))
}

// heading waits for the page that has this heading.
func (b *tab) heading(text string) {
	b.t.Helper()
	b.until(fmt.Sprintf(`document.readyState === "complete" && document.querySelector("h1")?.textContent === %q`, text))
}

// until waits until the expression is true.
func (b *tab) until(expression string) {
	b.t.Helper()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	deadline := time.After(30 * time.Second)
	for {
		// An error is that of a page that is just being left.
		ok, err := chromedp.Run(b.ctx, chromedp.Evaluate[bool](expression))
		if ok && err == nil {
			return
		}
		select {
		case <-again.C:
		case <-deadline:
			require.FailNow(b.t, "it has not come true", "%s: %v", expression, err)
		}
	}
}

// eval returns the value of an expression.
func eval[T any](b *tab, expression string) T {
	b.t.Helper()
	value, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](expression))
	require.NoError(b.t, err, expression)
	return value
}

// onEveryPage runs a script before those of each page.
func onEveryPage(script string) func(*tab) {
	return func(b *tab) {
		command(b, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: script})
	}
}

// screen is how a page is looked at.
func screen(width, height int64, scheme string) func(*tab) {
	return func(b *tab) {
		b.run(chromedp.EmulateViewport(width, height, chromedp.EmulateScale(2)))
		command(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
		})
	}
}

// shoot writes a screenshot.
func (b *tab) shoot(name string) {
	b.t.Helper()
	png, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
	require.NoError(b.t, err)
	require.NoError(b.t, os.MkdirAll("artifacts", 0o755))
	require.NoError(b.t, os.WriteFile(filepath.Join("artifacts", name+".png"), png, 0o644))
}

// Shorthands for what the tests do all the time.
func (b *tab) click(selector string) { b.t.Helper(); b.run(chromedp.Click(chromedp.CSS(selector))) }
func (b *tab) visible(selector string) {
	b.t.Helper()
	b.run(chromedp.WaitVisible(chromedp.CSS(selector)))
}
func (b *tab) press(keys string, modifiers ...chromedp.Modifier) {
	b.t.Helper()
	b.run(chromedp.KeyEvent(keys, chromedp.KeyModifiers(modifiers...)))
}

// submit types into a field and presses the button.
func (b *tab) submit(selector, text string) {
	b.t.Helper()
	b.visible(selector)
	b.until(fmt.Sprintf(`(document.querySelector(%q).value = "") === ""`, selector))
	b.run(chromedp.SendKeys(chromedp.CSS(selector), text))
	b.click("button")
}
