package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestSampleIsInTheReadme keeps the README's first sample what is compiled here, and
// short.
func TestSampleIsInTheReadme(t *testing.T) {
	source, err := os.ReadFile("main.go")
	require.NoError(t, err)
	_, sample, ok := strings.Cut(string(source), "func homeserver(")
	require.True(t, ok)
	sample, _, ok = strings.Cut("func homeserver("+sample, "\n}\n")
	require.True(t, ok)
	assert.LessOrEqual(t, strings.Count(sample, "\n")+2, 30)
	readme, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	_, first, ok := strings.Cut(string(readme), "```go\n")
	require.True(t, ok)
	first, _, _ = strings.Cut(first, "\n}\n```")
	assert.Equal(t, sample, first)
}

func TestSample(t *testing.T) {
	h := homeserver(t.Context(), filepath.Join(t.TempDir(), "homeserver.db"), "admin-token")
	send := func(method, path, body, token string) (int, map[string]any) {
		r := httptest.NewRequest(method, path, strings.NewReader(body))
		r.Header.Set("Authorization", "Bearer "+token)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		var answer map[string]any
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &answer))
		return w.Code, answer
	}
	const tokens, reg = "/_synapse/admin/v1/registration_tokens", "/_matrix/client/v3/register"
	status, _ := send("POST", tokens+"/new", `{"uses_allowed":1}`, "another")
	require.Equal(t, http.StatusUnauthorized, status)
	status, made := send("POST", tokens+"/new", `{"uses_allowed":1}`, "admin-token")
	require.Equal(t, http.StatusOK, status)
	token := made["token"].(string)
	status, valid := send("GET", "/_matrix/client/v1/register/m.login.registration_token/validity?token="+token, "", "")
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, true, valid["valid"])

	_, challenge := send("POST", reg, `{}`, "")
	session := challenge["session"].(string)
	params := `{"username":"alice","password":"wonderland","auth":{"session":"` + session + `",`
	status, answer := send("POST", reg, params+`"type":"m.login.registration_token","token":"`+token+`"}}`, "")
	require.Equal(t, http.StatusUnauthorized, status)
	require.NotContains(t, answer, "errcode")
	status, answer = send("POST", reg, params+`"type":"m.login.dummy"}}`, "")
	require.Equal(t, http.StatusOK, status, "%v", answer)
	assert.Equal(t, "@alice:example.org", answer["user_id"])
	assert.NotEmpty(t, answer["access_token"])
	status, answer = send("GET", reg+"/available?username=alice", "", "")
	assert.Equal(t, http.StatusBadRequest, status)
	assert.Equal(t, "M_USER_IN_USE", answer["errcode"])
	_, valid = send("GET", "/_matrix/client/v1/register/m.login.registration_token/validity?token="+token, "", "")
	assert.Equal(t, false, valid["valid"])
}
