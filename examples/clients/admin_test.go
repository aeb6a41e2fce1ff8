package clients

import (
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/examples/homeserver/hs"
	"github.com/matrix-uia/uia/internal/testenv"
)

const regtoks = "/_synapse/admin/v1/registration_tokens"

// TestAdminWebUI sends what the web interfaces send, in their order.
func TestAdminWebUI(t *testing.T) {
	for _, version := range []string{"v3", "r0"} {
		t.Run(version, func(t *testing.T) {
			h, _ := newAdministered(t, nil)
			as := func(method, path, body string) reply {
				return h.do(t, method, path, body, "Authorization", "Bearer "+h.login(t, "/_matrix/client/"+version+"/login", "@root:localhost", "toor"))
			}
			assert.Equal(t, 200, h.do(t, "GET", "/_matrix/client/"+version+"/login", "").Status)
			assert.NotEmpty(t, as("GET", "/_synapse/admin/v1/server_version", "").Body["server_version"])
			users := as("GET", "/_synapse/admin/v2/users?from=0&limit=10&guests=true&deactivated=false&order_by=name&dir=f", "")
			require.Equal(t, 200, users.Status)
			assert.Equal(t, 1.0, users.Body["total"])
			assert.Equal(t, "@root:localhost", users.Body["users"].([]any)[0].(map[string]any)["name"])

			expiry := time.Now().Add(time.Hour).UnixMilli()
			made := as("POST", regtoks+"/new", object(t, "token", "abcd", "uses_allowed", 2, "expiry_time", expiry, "length", 16))
			require.Equal(t, 200, made.Status, "%v", made.Body)
			list := as("GET", regtoks+"?valid=true&from=0&limit=500&order_by=token&dir=f", "")
			require.Equal(t, 200, list.Status)
			record := list.Body["registration_tokens"].([]any)[0].(map[string]any)
			assert.Equal(t, made.Body, record)

			back := []any{"id", "abcd"}
			for name, value := range record {
				back = append(back, name, value)
			}
			back = append(back, "uses_allowed", nil)
			put := as("PUT", regtoks+"/abcd", object(t, back...))
			require.Equal(t, 200, put.Status, "%v", put.Body)
			assert.Nil(t, put.Body["uses_allowed"])
			assert.EqualValues(t, expiry, put.Body["expiry_time"])

			token := h.login(t, "/_matrix/client/v3/login", "root", "toor")
			var answers [2]reply
			var both sync.WaitGroup
			for i := range answers {
				both.Go(func() { answers[i] = h.do(t, "DELETE", regtoks+"/abcd", "{}", "Authorization", "Bearer "+token) })
			}
			both.Wait()
			assert.ElementsMatch(t, []int{200, 404}, []int{answers[0].Status, answers[1].Status})
		})
	}
}

func TestAdminNeedsAnAdmin(t *testing.T) {
	h, _ := newAdministered(t, func(o *hs.Options) { o.Tokens = []uia.Token{{Value: "abcd"}}; o.Flows = []uia.Flow{flowT} })
	r := h.do(t, "POST", "/_matrix/client/v3/register", `{"username":"u","password":"p","auth":{"type":"m.login.registration_token","token":"abcd"}}`)
	require.Equal(t, 200, r.Status)
	user := r.Body["access_token"].(string)
	for _, request := range [][2]string{
		{"GET", regtoks}, {"GET", regtoks + "/"}, {"POST", regtoks + "/new"}, {"GET", regtoks + "/abcd"}, {"PUT", regtoks + "/abcd"},
		{"DELETE", regtoks + "/abcd"}, {"GET", regtoks + "/abcd/uses"}, {"GET", regtoks + "/abcd/qr"}, {"GET", "/_synapse/admin/v2/users"},
	} {
		for header, want := range map[string][]any{
			"": {401, "M_MISSING_TOKEN"}, "Bearer nonsense": {401, "M_UNKNOWN_TOKEN"}, "Bearer " + user: {403, "M_FORBIDDEN"},
		} {
			got := h.do(t, request[0], request[1], "{}", "Authorization", header)
			assert.Equal(t, want, []any{got.Status, got.Body["errcode"]}, "%v with %q", request, header)
		}
	}
	assert.Equal(t, 200, h.do(t, "GET", "/_matrix/client/v1/register/m.login.registration_token/validity?token=abcd", "").Status)
}

// TestAdminSuperset is what an operator has from the libraries of the example.
func TestAdminSuperset(t *testing.T) {
	h, access := newAdministered(t, func(o *hs.Options) { o.InviteURL = "https://chat.example.org/#/register?token={token}" })
	as := func(method, path, body string) reply {
		return h.do(t, method, path, body, "Authorization", "Bearer "+access)
	}
	for range 20 {
		r := as("POST", regtoks+"/new", `{"style":"words"}`)
		require.Equal(t, 200, r.Status, "%v", r.Body)
		// 7772 of the 7776 words have no hyphen: 12.9 bits each.
		assert.Regexp(t, `^[a-z]+(-[a-z]+){4}$`, r.Body["token"])
		assert.Equal(t, "https://chat.example.org/#/register?token="+r.Body["token"].(string), r.Body["invite_url"])
	}
	as("POST", regtoks+"/new", `{"token":"abcd"}`)
	req, err := http.NewRequestWithContext(t.Context(), "GET", h.URL+regtoks+"/abcd/qr", nil)
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+access)
	res, err := h.Client().Do(req)
	require.NoError(t, err)
	defer res.Body.Close()
	image, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	assert.Equal(t, "image/png", res.Header.Get("Content-Type"))
	assert.Equal(t, "image/png", http.DetectContentType(image))
	// Tokens of these names can be managed through the homeserver's own routing.
	for _, value := range []string{".", ".."} {
		require.NoError(t, h.store.CreateTokens(t.Context(), uia.Token{Value: value}))
		path := regtoks + "/" + strings.ReplaceAll(value, ".", "%2E")
		assert.Equal(t, value, as("GET", path, "").Body["token"])
		assert.Equal(t, 200, as("DELETE", path, "").Status)
	}
}

// TestNoTokenLeaks looks for whole tokens wherever nobody asked for them: in the
// log, the audit log, the metrics and every error.
func TestNoTokenLeaks(t *testing.T) {
	var log, audit testenv.Log
	h, access := newAdministered(t, func(o *hs.Options) {
		o.Flows = []uia.Flow{flowTD}
		o.Failures = 20
		o.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		o.Audit = slog.New(slog.NewTextHandler(&audit, nil))
	})
	as := func(method, path, body string) reply {
		return h.do(t, method, path, body, "Authorization", "Bearer "+access)
	}
	var errors strings.Builder
	try := func(token string) reply {
		r := h.do(t, "POST", "/_matrix/client/v3/register", object(t, "username", strings.ToLower(token), "password", "p",
			"auth", map[string]any{"type": "m.login.registration_token", "token": token}))
		errors.WriteString(object(t, "", r.Body))
		return r
	}
	secrets := []string{"zq-good-zq", "zq-revoked-zq", "zq-expired-zq", "zq-used-zq", "zq-unknown-zq", "zq-pinned-zq"}
	for _, value := range secrets[:4] {
		require.Equal(t, 200, as("POST", regtoks+"/new", object(t, "token", value, "uses_allowed", 1, "label", "l")).Status)
	}
	require.Equal(t, 200, as("POST", regtoks+"/new", `{"token":"zq-pinned-zq","meta":{"username":"somebody"}}`).Status)
	require.Equal(t, 200, as("PUT", regtoks+"/zq-revoked-zq", `{"revoked":true}`).Status)
	_, err := h.store.UpdateToken(t.Context(), "zq-expired-zq", uia.TokenPatch{Expires: new(time.UnixMilli(1))}, time.Now())
	require.NoError(t, err)
	require.Equal(t, 200, as("PUT", regtoks+"/zq-used-zq", `{"uses_allowed":0}`).Status)
	for _, value := range secrets {
		r := try(value)
		if session, ok := r.Body["session"].(string); ok {
			r = h.do(t, "POST", "/_matrix/client/v3/register", object(t, "username", "x"+strings.ToLower(value[3:6]), "password", "p",
				"auth", map[string]any{"type": "m.login.dummy", "session": session}))
			errors.WriteString(object(t, "", r.Body))
		}
		for _, r := range []reply{
			as("POST", regtoks+"/new", object(t, "token", value, "uses_allowed", -1)),
			as("POST", regtoks+"/new", object(t, "token", value+"/")),
			as("PUT", regtoks+"/"+value, `{"uses_allowed":true}`),
			as("GET", regtoks+"/"+value+"x", ""),
			as("DELETE", regtoks+"/"+value+"x", ""),
			h.do(t, "GET", regtoks+"/"+value, ""),
		} {
			require.GreaterOrEqual(t, r.Status, 400)
			errors.WriteString(object(t, "", r.Body))
		}
	}
	require.Equal(t, "M_INVALID_PARAM", as("POST", regtoks+"/new", `{"token":"zq-good-zq"}`).Body["errcode"])
	for range 30 {
		try("zq-unknown-zq")
	}
	require.Equal(t, 200, as("DELETE", regtoks+"/zq-good-zq", "").Status)

	res, err := h.Client().Get(h.URL + "/metrics")
	require.NoError(t, err)
	defer res.Body.Close()
	metrics, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	for where, text := range map[string]string{"log": log.String(), "audit log": audit.String(), "metrics": string(metrics), "errors": errors.String()} {
		for _, secret := range append(secrets, access, "toor") {
			assert.NotContains(t, text, secret, where)
		}
	}

	// What is there instead lets an operator follow one token.
	print := "token=" + uia.Fingerprint("zq-good-zq")
	lines := []string{}
	for line := range strings.Lines(audit.String()) {
		if strings.Contains(line, print) {
			_, rest, _ := strings.Cut(line, "msg=")
			name, _, _ := strings.Cut(rest, " ")
			lines = append(lines, name)
		}
	}
	assert.Equal(t, []string{"token_created", "use_held", "use_spent", "token_deleted"}, lines)
	assert.Contains(t, audit.String(), "by=@root:localhost")
	assert.Contains(t, audit.String(), `reason="token expired"`)
	for _, line := range []string{
		`uia_events_total{event="token_created"} 5`, `uia_events_total{event="token_revoked"} 1`, `uia_events_total{event="use_spent"} 1`,
		`uia_stage_failures_total{errcode="M_UNAUTHORIZED",reason="token expired",stage="m.login.registration_token"} `,
	} {
		assert.Contains(t, string(metrics), line)
	}
	assert.NotContains(t, string(metrics), `uia_events_total{event="limit_hit"} 0`)
}
