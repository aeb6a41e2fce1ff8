package uiatest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Server is a homeserver under test, and what it offers.
type Server struct {
	// Handler is a homeserver in this process, URL one that listens: the address that
	// stands before /_matrix. One of the two is required.
	Handler http.Handler
	URL     string

	// NewToken makes a registration token. Nil means that they are made with
	// AdminToken, or taken from Tokens.
	NewToken func(ctx context.Context, t NewToken) (string, error)
	// AdminToken is an access token for /_synapse/admin/v1/registration_tokens. Empty
	// means that the homeserver has no such administration: its cases do not apply.
	AdminToken string
	// Tokens are unused tokens of one use each. Cases that need another kind of token,
	// or come when all are taken, do not apply.
	Tokens []string

	// AppServiceToken is the access token of an application service, and
	// AppServicePrefix what the usernames begin with that it may register, such as
	// "_uiatest_". Empty means that the cases about application services do not apply.
	AppServiceToken, AppServicePrefix string
	// Patience is how long a case may wait. Zero means that those do not apply which
	// come back to a session after minutes.
	Patience time.Duration

	// Password is the password of the accounts that are made. Empty means one for each
	// account that has letters of both cases, digits and a hyphen.
	Password string

	// Flows are the flows of POST /register. Nil means that the homeserver is asked.
	// Cases that register take the first flow that consists of the token stage
	// (T), or of the token stage and m.login.dummy (TD). If there is none, but one of
	// m.login.dummy alone (D), they take that, and what is about tokens does not apply.
	Flows [][]string
	// Closed says that registration is off. Only the cases about that apply, and if it is
	// on nothing is measured.
	Closed bool
	// Lacks lists what the homeserver does not offer, of "validity",
	// "available", "fallback", "whoami", "login", "versions",
	// "devices" (deleting one, which takes the user's password), "server_version",
	// "guests", "refresh", "terms", "email", "cross-signing", "device-names" and
	// "signup" (the page at /register?token=... on which an invite link ends). The
	// homeserver is asked for these last seven: they need not be listed.
	Lacks []string
}

// Features returns what Server.Lacks can list.
func Features() []string {
	return slices.DeleteFunc(slices.Clone(features), func(name string) bool {
		return slices.Contains([]string{"register", "account", "token", "T", "TD", "admin", "closed", "appservice", "session", "token-stage", "patience"}, name)
	})
}

// NewToken is a registration token to be made for a case.
type NewToken struct {
	// Value is the token. It is within the grammar and has never been used.
	Value string
	// Uses is how many accounts it makes; nil means any number.
	Uses *int64
	// Expires is when it expires, in the past for some cases; zero means never.
	Expires time.Time
}

// The stages that the kit can complete.
const (
	typeToken = "m.login.registration_token"
	typeDummy = "m.login.dummy"
)

// check returns what is wrong with the description.
func (s *Server) check() error {
	var errs []error
	if (s.Handler == nil) == (s.URL == "") {
		errs = append(errs, errors.New("uiatest: Server needs either Handler or URL"))
	}
	if s.URL != "" {
		u, err := url.Parse(s.URL)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.RawQuery != "" || u.Fragment != "" {
			errs = append(errs, fmt.Errorf("uiatest: %q is not the address of a homeserver, such as http://127.0.0.1:8008", s.URL))
		}
	}
	for _, name := range s.Lacks {
		if !slices.Contains(Features(), name) {
			errs = append(errs, &SetupError{"Lacks", fmt.Sprintf("nothing is called %q", name)})
		}
	}
	return errors.Join(errs...)
}

// base is the address of the homeserver, without a slash at its end.
func (s *Server) base() string {
	if s.Handler != nil {
		return "http://uiatest.invalid"
	}
	return strings.TrimRight(s.URL, "/")
}

// flowOf returns the name of the first flow that the kit can complete, one with a token
// if there is one: "T", "TD", "D", or "" if there is none.
func flowOf(flows [][]string) (name string) {
	for _, flow := range flows {
		switch {
		case slices.Equal(flow, []string{typeToken}):
			return "T"
		case slices.Equal(flow, []string{typeToken, typeDummy}):
			return "TD"
		case slices.Equal(flow, []string{typeDummy}):
			name = "D"
		}
	}
	return name
}

// missing returns why a case does not apply; "" if it does.
func (r *runner) missing(ctx context.Context, c *Case) string {
	if why := r.unmet(c); why != "" {
		return why
	}
	needs := c.Needs
	if r.mints(c) {
		needs = append(slices.Clone(needs), "admin")
	}
	for _, need := range needs {
		if c.Area == offersArea && need == c.feature() || r.server.Closed && need == "token-stage" {
			continue // a closed homeserver tells no flows
		}
		if why := r.lacks(ctx, need); why != "" {
			return why
		}
	}
	return ""
}

// unmet returns why a case does not apply to a homeserver that is as it was described.
func (r *runner) unmet(c *Case) string {
	s := &r.server
	if s.Closed != c.needs("closed") && !(s.Closed && r.neededClosed(c)) {
		if s.Closed {
			return "registration is closed"
		}
		return "registration is open"
	}
	for _, need := range c.Needs {
		if why := r.without(c, need); why != "" {
			return why
		}
	}
	return r.cannotMake(c)
}

// without returns why a need of a case is not met, as far as that is known without
// asking the homeserver.
func (r *runner) without(c *Case, need string) string {
	s := &r.server
	switch {
	case slices.Contains(s.Lacks, need):
		return "the homeserver does not offer " + need
	case need == "admin" && s.AdminToken == "":
		return "no administration: there is no access token for it"
	case need == "appservice" && s.AppServiceToken == "":
		return "no application service: there is no access token of one"
	case need == "patience" && s.Patience < c.waits():
		return fmt.Sprintf("it waits for %v, and the run is not to wait that long", c.waits())
	case need == "token" && !r.tokens() && !s.Closed:
		return "no flow of " + typeToken + " alone, or with " + typeDummy + " after it"
	case need == "account" && r.flow == "":
		return "no flow of " + typeToken + " and " + typeDummy
	case (need == "T" || need == "TD") && r.flow != need:
		return "the flow is " + r.flowName() + ", not " + flowNames[need]
	}
	return ""
}

// tokens reports whether accounts are made with tokens.
func (r *runner) tokens() bool { return r.flow == "T" || r.flow == "TD" }

var flowNames = map[string]string{"T": typeToken, "TD": typeToken + ", " + typeDummy, "D": typeDummy}

func (r *runner) flowName() string {
	if r.flow == "" {
		return "another one"
	}
	return flowNames[r.flow]
}
