package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// Finding is something about the upstream that its operator should know.
type Finding struct {
	// Severe says that somebody can get an account without a token of the gateway, or
	// that nobody can get one with a token.
	Severe bool
	// Text is one line of plain English.
	Text string
}

// Check looks at the upstream as a stranger does, and finds by what other ways
// accounts come about there, and whether users can log in with the password that
// they choose at the gateway. It makes no account. It finds nothing if all is well.
//
// It cannot tell from where the upstream is reached: run it against the upstream's
// public address too, if there is one. Guests are not looked at, because asking
// makes one. [SharedSecret.Check] and [PrivateRegistration.Check] look at more.
func (c *Client) Check(ctx context.Context) []Finding { return c.check(ctx, false) }

// check is Check; open says that the upstream is meant to register anybody who
// reaches it, since nobody does.
func (c *Client) check(ctx context.Context, open bool) []Finding {
	var out []Finding
	severe := func(format string, args ...any) { out = append(out, Finding{true, fmt.Sprintf(format, args...)}) }
	for _, v := range []string{"v3", "r0", "unstable"} {
		path := "/_matrix/client/" + v + "/register"
		err := c.do(ctx, call{method: http.MethodPost, path: path, body: struct{}{}}, nil)
		answer, ok := errors.AsType[*answerError](err)
		switch {
		case err == nil:
			severe("%s makes accounts without any authentication", path)
		case !ok || answer.Status >= 500:
			severe("whether %s is closed cannot be told: %v", path, err)
		case answer.Status == http.StatusUnauthorized && open:
			if v == "v3" {
				severe("%s registers whoever reaches it: nobody but the gateway may", path)
			}
		case answer.Status == http.StatusUnauthorized:
			for _, f := range answer.Flows {
				if !slices.ContainsFunc(f.Stages, isToken) {
					severe("%s offers the flow %v, which needs no token: whoever reaches the upstream past the gateway registers there", path, f.Stages)
				}
			}
		}
	}
	return append(append(out, c.checkLogin(ctx)...), c.checkOAuth(ctx)...)
}

// isToken reports whether a stage is the registration token's, by whatever name.
func isToken(stage string) bool {
	return strings.Contains(stage, "registration") && strings.Contains(stage, "token")
}

// checkLogin looks at the ways to log in.
func (c *Client) checkLogin(ctx context.Context) []Finding {
	var answer struct {
		Flows []struct {
			Type string `json:"type"`
		} `json:"flows"`
	}
	if err := c.do(ctx, call{method: http.MethodGet, path: "/_matrix/client/v3/login"}, &answer); err != nil {
		return []Finding{{true, fmt.Sprintf("how users log in cannot be told: %v", err)}}
	}
	var out []Finding
	password := false
	for _, f := range answer.Flows {
		switch f.Type {
		case "m.login.password":
			password = true
		case "m.login.sso", "m.login.cas", "m.login.jwt", "org.matrix.login.jwt":
			out = append(out, Finding{true, "the first login by " + f.Type + " makes an account without a token, unless the upstream is told not to"})
		}
	}
	if !password {
		out = append(out, Finding{true, "there is no login by password: users cannot log in with what they choose at the gateway"})
	}
	return out
}

// checkOAuth looks for an OAuth server.
func (c *Client) checkOAuth(ctx context.Context) []Finding {
	for _, path := range []string{"/_matrix/client/v1/auth_metadata", "/_matrix/client/unstable/org.matrix.msc2965/auth_metadata"} {
		if err := c.do(ctx, call{method: http.MethodGet, path: path}, nil); err == nil {
			return []Finding{{true, "accounts are kept by an OAuth server: clients register there, and never come to the gateway"}}
		}
	}
	return nil
}
