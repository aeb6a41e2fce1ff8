package uiatest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// SetupError is a mistake in the description of the homeserver, which has to be corrected
// before anything can be measured.
type SetupError struct {
	// Field is the field of [Server] that is not as it has to be, such as "AdminToken".
	Field string
	// Problem says what is wrong, and how to correct it.
	Problem string
}

func (e *SetupError) Error() string { return "uiatest: Server." + e.Field + ": " + e.Problem }

// registerPath is where accounts are made.
const registerPath = "/_matrix/client/v3/register"

// look finds out whether there is a homeserver, and whether it is as it was described.
func (r *runner) look(ctx context.Context) error {
	a, err := r.post(ctx, map[string]any{})
	if err != nil {
		return fmt.Errorf("uiatest: the homeserver cannot be measured: %w", err)
	}
	object, ok := a.json.(map[string]any)
	if !ok {
		return fmt.Errorf("uiatest: this is not a homeserver: POST %s is answered with %d, and not with a JSON object but with %s %q",
			registerPath, a.status, a.header.Get("Content-Type"), shorten(legible(a.body), 80))
	}
	closed := a.status == http.StatusForbidden
	switch {
	case a.status == http.StatusNotFound || a.status >= 500:
		return fmt.Errorf("uiatest: the homeserver cannot be measured: POST %s is answered with %s", registerPath, a.brief())
	case closed && !r.server.Closed:
		return &SetupError{"Closed", "registration is closed: POST " + registerPath + " is answered with " + a.brief() +
			"; open it, or say that it is closed, and only that is measured"}
	case a.status == http.StatusUnauthorized && r.server.Closed:
		return &SetupError{"Closed", "registration is not closed: POST " + registerPath + " is answered with " + a.brief()}
	}
	if r.server.Flows == nil {
		var challenge struct{ Flows []struct{ Stages []string } }
		if json.Unmarshal(encode(object), &challenge) == nil {
			for _, flow := range challenge.Flows {
				r.server.Flows = append(r.server.Flows, flow.Stages)
			}
		}
	}
	r.flow = flowOf(r.server.Flows)
	if err := r.tryAdminToken(ctx); err != nil || closed {
		return err
	}
	return r.tryPassword(ctx)
}

// post sends JSON to the endpoint that makes accounts.
func (r *runner) post(ctx context.Context, body any) (*answer, error) {
	return r.sender.send(ctx, r.from, &message{method: http.MethodPost, path: registerPath, body: encode(body),
		header: http.Header{"Content-Type": {"application/json"}}}, patient)
}

// tryAdminToken asks for the list of tokens.
func (r *runner) tryAdminToken(ctx context.Context) error {
	if r.server.AdminToken == "" {
		return nil
	}
	a, err := r.sender.send(ctx, r.from, r.mint.request(http.MethodGet, adminPath, nil), patient)
	if err != nil {
		return fmt.Errorf("uiatest: the homeserver cannot be measured: %w", err)
	}
	if a.status == http.StatusUnauthorized || a.status == http.StatusForbidden {
		return &SetupError{"AdminToken", fmt.Sprintf("the homeserver does not take it for an administrator's: GET %s is answered with %s", adminPath, a.brief())}
	}
	return nil
}

// tryPassword asks for an account with a password, because some homeservers refuse a weak
// one at once. Others refuse it at the end of a registration: ask looks for that.
func (r *runner) tryPassword(ctx context.Context) error {
	password := r.password()
	a, err := r.post(ctx, map[string]any{"username": "uiatest-" + random(12), "password": password})
	if err != nil {
		return fmt.Errorf("uiatest: the homeserver cannot be measured: %w", err)
	}
	return r.refused(a)
}

// refused says whether an answer refuses the password of the run.
func (r *runner) refused(a *answer) error {
	object, _ := a.json.(map[string]any)
	code, _ := object["errcode"].(string)
	if code != "M_WEAK_PASSWORD" && !strings.HasPrefix(code, "M_PASSWORD_") {
		return nil
	}
	return &SetupError{"Password", "the homeserver's policy refuses the password of the accounts: " + a.brief() + "; give one that the policy accepts"}
}

// password returns the password of an account. As policies want it, it has letters of both
// cases, a digit and another character, and no part of a username.
func (r *runner) password() string {
	if r.server.Password != "" {
		return r.server.Password
	}
	return "Kit-7-" + random(20)
}

// TokensFor returns how many of Server.Tokens the cases take of a homeserver with which
// nothing is wrong: those of the cases, and one for each account that they share.
func TokensFor(cases []Case) int {
	s, err := load()
	if err != nil {
		panic(err) // the files are embedded, and a test parses them
	}
	take := 0
	borrowed, spoilt := make(map[string]int), make(map[string]int)
	asked := make(map[string]bool)
	borrow := func(accounts map[string]accountDecl) {
		for _, d := range accounts {
			borrowed[d.kind()]++
			if d.Spoils {
				spoilt[d.kind()]++
			}
		}
	}
	for _, c := range cases {
		take += c.Tokens
		borrow(c.accounts)
		for _, need := range c.Needs {
			if !asked[need] {
				asked[need] = true
				take += len(s.probes[need].Tokens)
				borrow(s.probes[need].Accounts)
			}
		}
	}
	for kind, n := range borrowed {
		take += min(n, maxLent+spoilt[kind])
	}
	return take
}

// enoughTokens says whether the tokens that were given suffice for the cases.
func (r *runner) enoughTokens(cases []Case) error {
	s := &r.server
	if s.NewToken != nil || s.AdminToken != "" || len(s.Tokens) == 0 {
		return nil
	}
	take := TokensFor(slices.DeleteFunc(slices.Clone(cases), func(c Case) bool { return r.unmet(&c) != "" }))
	if take > len(s.Tokens) {
		return &SetupError{"Tokens", fmt.Sprintf("%d registration tokens were given, and the cases take %d: give more, or choose fewer cases", len(s.Tokens), take)}
	}
	return nil
}

// canRegister says whether the cases can register with the tokens that were given.
func (r *runner) canRegister(cases []Case) error {
	s := &r.server
	if r.tokens() || s.Closed || s.NewToken == nil && s.AdminToken == "" && len(s.Tokens) == 0 {
		return nil
	}
	for _, c := range cases {
		if c.needs("token") {
			return &SetupError{"Flows", fmt.Sprintf("registration has the flows %s, and none is %s alone or with %s after it: "+
				"have it ask for a token, or give no tokens, and only what needs none is measured", encode(s.Flows), typeToken, typeDummy)}
		}
	}
	return nil
}

// brief is an answer in a line.
func (a *answer) brief() string {
	return cut(fmt.Sprintf("%d %s", a.status, legible(a.body)), 200)
}
