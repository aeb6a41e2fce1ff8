package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/matrix-uia/uia"

	"github.com/matrix-uia/uia/examples/homeserver/hs"
	"github.com/matrix-uia/uia/signup"
)

// hints are what a newcomer needs: a link to open, where the server is, a token, and two commands
// that register an account with it.
type hints struct {
	serverName, database string
	flows                []uia.Flow
	tokens               []listedToken
	username             string
}

// listedToken is a token as the database has it.
type listedToken struct {
	uia.Token
	existed bool // before this start
}

// newHints looks at the database before the server does, which makes the tokens
// that are not there.
func newHints(ctx context.Context, storage *hs.Storage, opts hs.Options) (*hints, error) {
	h := &hints{serverName: opts.ServerName, database: storage.Name, flows: opts.Flows, username: "alice"}
	for _, t := range opts.Tokens {
		found, err := storage.Tokens.Token(ctx, t.Value, time.Now())
		switch {
		case errors.Is(err, uia.ErrNotFound):
			h.tokens = append(h.tokens, listedToken{t, false})
		case err != nil:
			return nil, err
		default:
			h.tokens = append(h.tokens, listedToken{found, true})
		}
	}
	_, err := storage.Accounts.User(ctx, h.username)
	switch {
	case err == nil:
		h.username += "-" + strings.ToLower(rand.Text()[:6])
	case !errors.Is(err, hs.ErrNotFound):
		return nil, err
	}
	return h, nil
}

// print prints the hints once it is known where the server listens.
func (h *hints) print(w io.Writer, base string) {
	var usable string
	for _, t := range h.tokens {
		if usable == "" && t.Usable(time.Now()) == nil {
			usable = t.Value
		}
	}
	link := base + signup.Path
	if usable != "" {
		link = strings.ReplaceAll(signup.InviteURL(link), "{token}", usable)
	}
	fmt.Fprintf(w, "sign up     %s\n", link)
	fmt.Fprintf(w, "homeserver  %s (server name %s)\n", base, h.serverName)
	fmt.Fprintf(w, "database    %s\n", h.database)
	for _, t := range h.tokens {
		fmt.Fprintf(w, "token       %s (%s)\n", t.Value, t.describe())
	}
	commands := h.curlPair(base, usable)
	switch {
	case commands != nil:
		fmt.Fprintln(w, "register    with these two commands:")
		fmt.Fprintln(w, strings.Join(commands, "\n"))
	case len(h.tokens) > 0 && usable == "":
		fmt.Fprintln(w, "register    with a new token: none of these is valid")
	}
}

// describe says how often the token can be used.
func (t listedToken) describe() string {
	uses := "any number of uses"
	if t.UsesAllowed != nil {
		uses = fmt.Sprintf("%d use(s)", *t.UsesAllowed)
	}
	if !t.Expires.IsZero() {
		uses += ", until " + t.Expires.Local().Format(time.DateTime)
	}
	if !t.existed {
		return uses
	}
	err := t.Usable(time.Now())
	switch {
	case errors.Is(err, uia.ErrExhausted):
		uses += ", none left"
	case err != nil:
		uses += ", not valid any more"
	case t.UsesAllowed != nil:
		uses += fmt.Sprintf(", %d left", *t.UsesAllowed-t.Pending-t.Completed)
	}
	return uses + "; it was there already and is left as it is"
}

// curlPair returns two commands that register an account in the first flow they
// can complete: the first opens a session, and completes the first stage if there
// are two; the second completes the last one. Where the first is given no session, it
// shows what it is given, and there is no second. It returns none if there is no such
// flow.
func (h *hints) curlPair(base, token string) []string {
	i := slices.IndexFunc(h.flows, func(f uia.Flow) bool {
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
	body := map[string]any{"username": h.username, "password": "correct horse battery staple"}
	curl := "curl -s " + base + "/_matrix/client/v3/register -d "
	flow := h.flows[i]
	if len(flow) == 2 {
		body["auth"] = auth(flow[0])
	}
	first := `ANSWER=$(` + curl + quote(body) + `); SESSION=$(echo "$ANSWER" | sed -n 's/.*"session":"\([^"]*\)".*/\1/p'); [ "$SESSION" ] || echo "$ANSWER"`
	last := auth(flow[len(flow)-1])
	last["session"] = "SESSION"
	body["auth"] = last
	second := `[ -z "$SESSION" ] || ` + curl + strings.Replace(quote(body), `"session":"SESSION"`, `"session":"'$SESSION'"`, 1)
	return []string{first, second}
}

// quote encodes v as JSON within single quotes of the shell.
func quote(v any) string {
	out, _ := json.Marshal(v) // strings always encode
	return "'" + strings.ReplaceAll(string(out), "'", `'\''`) + "'"
}
