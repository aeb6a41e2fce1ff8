package signup_test

import (
	"bytes"
	"context"
	"errors"
	"html"
	"io/fs"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/matrix-org/gomatrixserverlib/spec"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/fallback"
	"github.com/matrix-uia/uia/limit"
	"github.com/matrix-uia/uia/memstore"
	"github.com/matrix-uia/uia/register"
	"github.com/matrix-uia/uia/signup"
)

const password = "correct horse battery"

var secrets = uia.FixedSecrets(bytes.Repeat([]byte("s"), 32))

// world is a homeserver with the page.
type world struct {
	t      testing.TB
	store  *counted
	engine *uia.Engine
	reg    *register.Registration
	page   http.Handler
	log    *strings.Builder

	mu       sync.Mutex
	accounts map[string]string // user IDs and passwords
	keys     map[string]string
}

// counted counts the writes of a store.
type counted struct {
	uia.Store
	writes atomic.Int64
}

func (c *counted) SaveSession(ctx context.Context, r uia.Record, now time.Time) (uia.Record, error) {
	c.writes.Add(1)
	return c.Store.SaveSession(ctx, r, now)
}

func (c *counted) Reserve(ctx context.Context, hold uia.Hold, now time.Time) error {
	c.writes.Add(1)
	return c.Store.Reserve(ctx, hold, now)
}

func (w *world) Available(_ context.Context, r register.UsernameRequest) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, taken := w.accounts["@"+r.Localpart+":example.org"]; taken {
		return uia.NewError(400, spec.UserInUse("This username is taken."))
	}
	return nil
}

func (w *world) Create(_ context.Context, a register.Account) (register.Created, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if id, ok := w.keys[a.Key]; ok {
		return register.Created{UserID: id}, nil
	}
	id := "@" + a.Localpart + ":example.org"
	if _, taken := w.accounts[id]; taken {
		return register.Created{}, uia.NewError(400, spec.UserInUse("This username is taken."))
	}
	w.accounts[id], w.keys[a.Key] = a.Password, id
	return register.Created{UserID: id}, nil
}

// setup is what differs between worlds.
type setup struct {
	flows   []uia.Flow
	stages  func(*world) []uia.Stage
	config  func(*uia.Config)
	options func(*signup.Options)
	pages   *fallback.Options
}

func newWorld(t testing.TB, s setup) *world {
	t.Helper()
	w := &world{t: t, store: &counted{Store: memstore.New(nil)}, log: &strings.Builder{}, accounts: map[string]string{}, keys: map[string]string{}}
	if s.flows == nil {
		s.flows = []uia.Flow{{uia.TokenType, uia.DummyType}}
	}
	limiter, err := limit.New(nil)
	require.NoError(t, err)
	w.reg = &register.Registration{
		Accounts: w, ServerName: "example.org", Flows: s.flows,
		Resolve: func(_ context.Context, key string) (uia.Outcome, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			if id, ok := w.keys[key]; ok {
				return uia.Outcome{Done: true, UserID: id}, nil
			}
			return uia.Outcome{}, errors.New("not known")
		},
	}
	cfg := uia.Config{
		Secrets: secrets, Sessions: w.store, Limiter: limiter,
		Client:     func(*http.Request) netip.Addr { return netip.MustParseAddr("192.0.2.1") },
		Stages:     []uia.Stage{&uia.TokenStage{Store: w.store}, uia.DummyStage{}},
		Operations: []uia.Operation{w.reg.Operation()},
		Logger:     slog.New(slog.NewTextHandler(w.log, nil)),
	}
	if s.stages != nil {
		cfg.Stages = append(cfg.Stages, s.stages(w)...)
	}
	if s.config != nil {
		s.config(&cfg)
	}
	w.engine, err = uia.New(cfg)
	require.NoError(t, err)
	pages, err := fallback.New(w.engine, s.pages)
	require.NoError(t, err)
	o := signup.Options{Engine: w.engine, Registration: w.reg, Pages: pages, Tokens: w.store, Secrets: secrets, Homeserver: "https://matrix.example.org"}
	if s.options != nil {
		s.options(&o)
	}
	w.page, err = signup.New(o)
	require.NoError(t, err)
	return w
}

func (w *world) token(value string, uses int64, change ...func(*uia.Token)) {
	w.t.Helper()
	token := uia.Token{Value: value, UsesAllowed: &uses}
	for _, f := range change {
		f(&token)
	}
	require.NoError(w.t, w.store.CreateTokens(context.Background(), token))
}

// uses returns the pending and the completed uses of a token.
func (w *world) uses(value string) (pending, completed int64) {
	w.t.Helper()
	token, err := w.store.Token(context.Background(), value, time.Now())
	require.NoError(w.t, err)
	return token.Pending, token.Completed
}

// view is a page as a browser has it.
type view struct {
	*httptest.ResponseRecorder
	w      *world
	body   string
	fields url.Values // of its form
	lang   string     // what the address asks for
}

var (
	input     = regexp.MustCompile(`<input [^>]*>`)
	attribute = regexp.MustCompile(`([a-z-]+)="([^"]*)"`)
)

func (w *world) get(query string) *view {
	w.t.Helper()
	return w.send(httptest.NewRequest("GET", "/register"+query, nil))
}

func (w *world) send(r *http.Request) *view {
	w.t.Helper()
	v := &view{httptest.NewRecorder(), w, "", url.Values{}, ""}
	w.page.ServeHTTP(v.ResponseRecorder, r)
	v.body = v.Body.String()
	for _, element := range input.FindAllString(v.body, -1) {
		attributes := map[string]string{}
		for _, m := range attribute.FindAllStringSubmatch(element, -1) {
			attributes[m[1]] = html.UnescapeString(m[2])
		}
		if attributes["type"] != "checkbox" {
			v.fields.Set(attributes["name"], attributes["value"])
		}
	}
	assert.Equal(w.t, "no-store", v.Header().Get("Cache-Control"))
	return v
}

// press fills in the form of the page and sends it.
func (v *view) press(filled url.Values) *view {
	v.w.t.Helper()
	values := maps.Clone(v.fields)
	maps.Copy(values, filled)
	r := httptest.NewRequest("POST", "/register?token=x&lang="+v.lang, strings.NewReader(values.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return v.w.send(r)
}

// says asserts the heading and that the page has these texts.
func (v *view) says(status int, heading string, texts ...string) *view {
	v.w.t.Helper()
	require.Equal(v.w.t, status, v.Code, "%s", text(v.body))
	require.Contains(v.w.t, v.body, heading+"</h1>", "%s", text(v.body))
	for _, s := range texts {
		require.Contains(v.w.t, html.UnescapeString(v.body), s)
	}
	return v
}

var blocks = regexp.MustCompile(`(?s)<(style|script)>.*?</(style|script)>|<[^>]*>`)

// text returns what a page says, for messages of tests.
func text(body string) string {
	return strings.Join(strings.Fields(blocks.ReplaceAllString(body, " ")), " ")
}

func alice() url.Values { return url.Values{"username": {"alice"}, "password": {password}} }

func mapFS(name string, content []byte) fs.FS { return fstest.MapFS{name: {Data: content}} }
