package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/matrix-uia/uia"

	"github.com/matrix-uia/uia/examples/homeserver/hs"
)

// printHints prints what a newcomer needs: where the server is, a token, and two
// commands that register an account with it.
func printHints(w io.Writer, base string, opts hs.Options) {
	fmt.Fprintf(w, "homeserver  %s (server name %s)\n", base, opts.ServerName)
	var token string
	for _, t := range opts.Tokens {
		uses := "any number of uses"
		if t.UsesAllowed != nil {
			uses = fmt.Sprintf("%d use(s)", *t.UsesAllowed)
		}
		fmt.Fprintf(w, "token       %s (%s)\n", t.Value, uses)
		if token == "" && (t.UsesAllowed == nil || *t.UsesAllowed > 0) {
			token = t.Value
		}
	}
	for i, line := range curlPair(base, opts.Flows, token) {
		if i == 0 {
			fmt.Fprintln(w, "register    with these two commands:")
		}
		fmt.Fprintln(w, line)
	}
}

// curlPair returns two commands that register an account in the first flow they
// can complete: the first opens a session, and completes the first stage if there
// are two; the second completes the last one. It returns none if there is no such
// flow.
func curlPair(base string, flows []uia.Flow, token string) []string {
	i := slices.IndexFunc(flows, func(f uia.Flow) bool {
		return len(f) <= 2 && !slices.ContainsFunc(f, func(stage string) bool {
			return stage != typeDummy && (stage != typeToken || token == "")
		})
	})
	if i < 0 {
		return nil
	}
	auth := func(stage string) map[string]string {
		if stage == typeToken {
			return map[string]string{"type": stage, "token": token}
		}
		return map[string]string{"type": stage}
	}
	body := map[string]any{"username": "alice", "password": "correct horse battery staple"}
	curl := "curl -s " + base + "/_matrix/client/v3/register -d "
	flow := flows[i]
	if len(flow) == 2 {
		body["auth"] = auth(flow[0])
	}
	first := `SESSION=$(` + curl + quote(body) + ` | sed 's/.*"session":"\([^"]*\)".*/\1/')`
	last := auth(flow[len(flow)-1])
	last["session"] = "SESSION"
	body["auth"] = last
	second := curl + strings.Replace(quote(body), `"session":"SESSION"`, `"session":"'$SESSION'"`, 1)
	return []string{first, second}
}

// quote encodes v as JSON within single quotes of the shell.
func quote(v any) string {
	out, _ := json.Marshal(v) // strings always encode
	return "'" + strings.ReplaceAll(string(out), "'", `'\''`) + "'"
}
