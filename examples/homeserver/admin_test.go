package main

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
)

// postJSON returns the answer to a request.
func postJSON(t *testing.T, url, token, body string) (out map[string]any) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "POST", url, strings.NewReader(body))
	require.NoError(t, err)
	r.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer res.Body.Close()
	require.NoError(t, json.NewDecoder(res.Body).Decode(&out))
	return out
}

// An admin is made at the start, and can log in with the password that is printed.
func TestAdminFlag(t *testing.T) {
	audit := filepath.Join(t.TempDir(), "audit.log")
	for name, args := range map[string][]string{"generated": {"-admin", "root"}, "given": {"-admin", "root:a:b"}} {
		t.Run(name, func(t *testing.T) {
			args = append(args, "-db", "memory", "-token", "abcd", "-audit", audit, "-invite", "https://chat.example.org/#/register?token={token}")
			lines, _ := start(t, 7, args...)
			_, password, printed := strings.Cut(lines[6], "admin       root with the password ")
			require.Equal(t, name == "generated", printed, lines[6])
			if !printed {
				password = "a:b"
			}
			base := strings.Fields(lines[0])[1]
			login := postJSON(t, base+"/_matrix/client/v3/login", "", `{"type":"m.login.password","user":"root","password":"`+password+`"}`)
			token, _ := login["access_token"].(string)
			require.NotEmpty(t, token, "%v", login)
			made := postJSON(t, base+"/_synapse/admin/v1/registration_tokens/new", token, `{"token":"made-`+name+`"}`)
			require.Equal(t, "https://chat.example.org/#/register?token=made-"+name, made["invite_url"])
			log, err := os.ReadFile(audit)
			require.NoError(t, err)
			require.Contains(t, string(log), `"msg":"token_created","token":"`+uia.Fingerprint("made-"+name)+`","by":"@root:localhost"`)
			require.NotContains(t, string(log), "made-")
		})
	}
}

// The database keeps an admin, with the first password.
func TestAdminIsKept(t *testing.T) {
	args := []string{"-db", filepath.Join(t.TempDir(), "homeserver.db"), "-token", "abcd"}
	lines, stop := start(t, 7, append(args, "-admin", "root")...)
	require.Contains(t, lines[6], "with the password ")
	stop()
	lines, stop = start(t, 7, append(args, "-admin", "root:other")...)
	require.Equal(t, "admin       root (was there already, with the password it has)", lines[6])
	stop()
}

// Somebody who has registered can be made an admin.
func TestAdminIsPromoted(t *testing.T) {
	db := filepath.Join(t.TempDir(), "homeserver.db")
	needTools(t)
	lines, stop := start(t, 6, "-db", db, "-token", "abcd")
	require.Equal(t, "@alice:localhost", runCommands(t, lines[4:]))
	stop()
	lines, stop = start(t, 7, "-db", db, "-token", "abcd", "-admin", " Alice")
	require.Equal(t, "admin       alice (was there already, with the password it has, and is a server admin from now on)", lines[6])
	stop()
	lines, _ = start(t, 7, "-db", db, "-token", "abcd", "-admin", "alice")
	require.Equal(t, "admin       alice (was there already, with the password it has)", lines[6])
	base := strings.Fields(lines[0])[1]
	login := postJSON(t, base+"/_matrix/client/v3/login", "", `{"type":"m.login.password","user":"alice","password":"correct horse battery staple"}`)
	made := postJSON(t, base+"/_synapse/admin/v1/registration_tokens/new", login["access_token"].(string), `{"token":"of-alice"}`)
	require.Equal(t, "of-alice", made["token"], "%v", made)
}

func TestBadAdminFlags(t *testing.T) {
	for _, args := range [][]string{
		{"-admin", ""}, {"-admin", "root:"}, {"-admin", ":x"}, {"-admin", "not a name"}, {"-invite", "https://chat.example.org"},
		{"-audit", "/nowhere/at/all"},
	} {
		require.Error(t, run(t.Context(), append(args, "-db", "memory"), io.Discard, io.Discard), "%q", args)
	}
}
