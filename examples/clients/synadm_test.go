package clients

import (
	"bytes"
	"encoding/json"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/examples/homeserver/hs"
	"github.com/matrix-uia/uia/internal/testenv"
)

// newAdministered starts a homeserver with an admin, and returns the admin's access
// token, got in the way that tools get it.
func newAdministered(t *testing.T, change func(*hs.Options)) (*homeserver, string) {
	t.Helper()
	storage, err := hs.Open(t.Context(), filepath.Join(t.TempDir(), "homeserver.db"))
	require.NoError(t, err)
	opts := hs.Options{ServerName: "localhost", Storage: storage}
	if change != nil {
		change(&opts)
	}
	server, err := hs.New(t.Context(), opts)
	require.NoError(t, err)
	made, err := server.EnsureAdmin(t.Context(), hs.Credentials{Localpart: "root", Password: "toor"})
	require.NoError(t, err)
	require.Equal(t, hs.AdminMade, made)
	h := &homeserver{Server: httptest.NewServer(server), store: storage.Tokens}
	t.Cleanup(func() {
		server.Close()
		h.Close()
		assert.NoError(t, storage.Close())
	})
	return h, h.login(t, "/_matrix/client/v3/login", "root", "toor")
}

func (h *homeserver) login(t *testing.T, path, user, password string) string {
	t.Helper()
	r := h.do(t, "POST", path, object(t, "type", "m.login.password", "user", user, "password", password))
	require.Equal(t, 200, r.Status, "%v", r.Body)
	return r.Body["access_token"].(string)
}

// synadm runs the tool and returns what it prints.
type synadm struct {
	t          *testing.T
	home, conf string
}

func newSynadm(t *testing.T, base, token string) synadm {
	t.Helper()
	_, err := exec.LookPath("synadm")
	testenv.Need(t, err)
	s := synadm{t: t, home: t.TempDir()}
	s.conf = filepath.Join(s.home, "synadm.yaml")
	conf := "user: root\ntoken: " + token + "\nbase_url: " + base + "\nadmin_path: /_synapse/admin\nmatrix_path: /_matrix\n" +
		"timeout: 30\nserver_discovery: well-known\nhomeserver: localhost\nformat: json\n"
	require.NoError(t, os.WriteFile(s.conf, []byte(conf), 0o600))
	return s
}

func (s synadm) run(args ...string) string {
	s.t.Helper()
	cmd := exec.CommandContext(s.t.Context(), "synadm", append([]string{"--batch", "-c", s.conf, "-o", "json"}, args...)...)
	cmd.Env = append(os.Environ(), "HOME="+s.home)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(s.t, err, "synadm %v: %s%s", args, out, &stderr)
	return string(out)
}

// regtok runs synadm regtok and decodes what it prints.
func (s synadm) regtok(args ...string) map[string]any {
	s.t.Helper()
	out := s.run(append([]string{"regtok"}, args...)...)
	var got map[string]any
	require.NoError(s.t, json.Unmarshal([]byte(out), &got), "%s", out)
	return got
}

// tokens returns the tokens that synadm regtok list shows.
func (s synadm) tokens(args ...string) []string {
	s.t.Helper()
	out := []string{}
	for _, entry := range s.regtok(append([]string{"list", "--ts"}, args...)...)["registration_tokens"].([]any) {
		out = append(out, entry.(map[string]any)["token"].(string))
	}
	return out
}

// shape keeps what Synapse has in a record.
func shape(record map[string]any) map[string]any {
	out := make(map[string]any)
	for _, name := range []string{"token", "uses_allowed", "pending", "completed", "expiry_time"} {
		value, there := record[name]
		if !there {
			value = "absent"
		}
		out[name] = value
	}
	return out
}

func record(token string, uses, pending, completed, expiry any) map[string]any {
	return map[string]any{"token": token, "uses_allowed": uses, "pending": pending, "completed": completed, "expiry_time": expiry}
}

func TestSynadm(t *testing.T) {
	h, access := newAdministered(t, nil)
	s := newSynadm(t, h.URL, access)
	expiry := time.Now().Add(time.Hour).UnixMilli()
	ms := strconv.FormatInt(expiry, 10)

	made := s.regtok("new")
	random := made["token"].(string)
	assert.Len(t, random, 16)
	assert.Equal(t, record(random, nil, 0.0, 0.0, nil), shape(made))
	assert.Len(t, s.regtok("new", "-l", "40")["token"], 40)
	assert.Equal(t, record("abcd", 3.0, 0.0, 0.0, float64(expiry)), shape(s.regtok("new", "-n", "abcd", "-u", "3", "-t", ms)))
	assert.Equal(t, record("off", 0.0, 0.0, 0.0, nil), shape(s.regtok("new", "--token", "off", "--uses-allowed", "0")))
	at := time.Now().Add(48 * time.Hour).UTC().Format("2006-01-02T15:04:05")
	assert.NotNil(t, s.regtok("new", "-n", "dated", "-e", at)["expiry_time"])
	assert.Equal(t, "M_INVALID_PARAM", s.regtok("new", "-n", "abcd")["errcode"])
	assert.Equal(t, "M_INVALID_PARAM", s.regtok("new", "-n", "a b")["errcode"])

	r := h.do(t, "POST", "/_matrix/client/v3/register", `{"username":"u","password":"p","auth":{"type":"m.login.registration_token","token":"abcd"}}`)
	r = h.do(t, "POST", "/_matrix/client/v3/register", `{"username":"u","password":"p","auth":{"type":"m.login.dummy","session":"`+r.session(t)+`"}}`)
	require.Equal(t, 200, r.Status, "%v", r.Body)

	assert.ElementsMatch(t, []string{random, "abcd", "dated"}, except40(s.tokens("--valid")))
	assert.Equal(t, []string{"off"}, s.tokens("--invalid"))
	assert.ElementsMatch(t, []string{random, "abcd", "dated", "off"}, except40(s.tokens()))

	assert.Equal(t, record("abcd", 3.0, 0.0, 1.0, float64(expiry)), shape(s.regtok("details", "--ts", "abcd")))
	assert.Equal(t, time.UnixMilli(expiry).Format("2006-01-02 15:04:05"), s.regtok("details", "abcd")["expiry_time"], "as a date")
	assert.Equal(t, "M_NOT_FOUND", s.regtok("details", "nothing")["errcode"])

	assert.Equal(t, record("abcd", 1.0, 0.0, 1.0, float64(expiry)), shape(s.regtok("update", "abcd", "-u", "1")), "the expiry stays")
	assert.Contains(t, s.tokens("--invalid"), "abcd")
	assert.Equal(t, record("abcd", nil, 0.0, 1.0, float64(expiry)), shape(s.regtok("update", "abcd", "-u", "-1")), "unlimited")
	assert.Equal(t, record("abcd", nil, 0.0, 1.0, nil), shape(s.regtok("update", "abcd", "-t", "-1")), "never")
	assert.Equal(t, record("abcd", 5.0, 0.0, 1.0, float64(expiry)), shape(s.regtok("update", "abcd", "-u", "5", "-t", ms)))
	assert.Equal(t, "M_INVALID_PARAM", s.regtok("update", "abcd", "-t", "1000")["errcode"])

	assert.Equal(t, "Registration token successfully deleted.", strings.TrimSpace(s.run("regtok", "delete", "abcd")))
	assert.Contains(t, s.run("regtok", "delete", "abcd"), "M_NOT_FOUND")
	assert.NotContains(t, s.tokens(), "abcd")

	assert.Contains(t, s.run("version"), "uia example homeserver")
	assert.Contains(t, s.run("user", "list"), "@root:localhost")

	stranger := h.login(t, "/_matrix/client/v3/login", "u", "p")
	assert.Equal(t, "M_FORBIDDEN", newSynadm(t, h.URL, stranger).regtok("list")["errcode"])
	assert.Equal(t, "M_UNKNOWN_TOKEN", newSynadm(t, h.URL, "nonsense").regtok("list")["errcode"])
}

// except40 leaves out the random token of 40 characters.
func except40(tokens []string) (out []string) {
	for _, token := range tokens {
		if len(token) != 40 {
			out = append(out, token)
		}
	}
	return out
}

// synadm makes a date of each expiry, and fails on the whole list if one of them is
// later than the year 9999.
func TestSynadmShowsTheLatestExpiries(t *testing.T) {
	t.Setenv("TZ", "UTC")
	h, access := newAdministered(t, nil)
	s := newSynadm(t, h.URL, access)
	const last = 253_402_300_799_999 // 9999-12-31T23:59:59.999Z
	assert.Equal(t, "M_INVALID_PARAM", s.regtok("new", "-n", "later", "-t", strconv.Itoa(last+1))["errcode"])
	assert.NotNil(t, s.regtok("new", "-n", "last", "-t", strconv.Itoa(last))["expiry_time"])
	require.NoError(t, h.store.CreateTokens(t.Context(), uia.Token{Value: "by-other-means", Expires: time.UnixMilli(last + 1)}))
	list := s.regtok("list")
	require.Len(t, list["registration_tokens"], 2, "%v", list)
	for _, entry := range list["registration_tokens"].([]any) {
		assert.Equal(t, "9999-12-31 23:59:59", entry.(map[string]any)["expiry_time"])
	}
}
