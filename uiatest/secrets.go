package uiatest

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// secrets are the strings that no report may contain, with their replacements. Reports
// are sent to others, and the accounts of a run stay on the homeserver.
type secrets map[string]string

// secrets returns those of the operator, and those that a case came to know.
func (r *runner) secrets(s *scope) secrets {
	found := secrets{}
	found.add(r.server.AdminToken, "(admin token)")
	found.add(r.server.AppServiceToken, "(application service's token)")
	for _, token := range r.server.Tokens {
		found.add(token, "(registration token)")
	}
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	for i, token := range s.log.access {
		found.add(token, fmt.Sprintf("(access token %d)", i+1))
	}
	for _, password := range s.log.passwords {
		found.add(password, "(password)")
	}
	return found
}

// add adds a secret, as it is and as it is written in JSON, in a query and in a path. A
// very short one is hidden only where it is a whole JSON string, because it may occur in
// other words by chance.
func (s secrets) add(secret, instead string) {
	switch {
	case secret == "":
	case len(secret) < 6:
		s[`"`+secret+`"`] = `"` + instead + `"`
	default:
		inJSON := string(encode(secret))
		for _, form := range []string{secret, inJSON[1 : len(inJSON)-1], url.QueryEscape(secret), url.PathEscape(secret)} {
			s[form] = instead
		}
	}
}

// hide takes the secrets out of a report.
func (s secrets) hide(r *Report) {
	// The longest come first, because a secret may begin with another one.
	forms := make([]string, 0, len(s))
	for form := range s {
		forms = append(forms, form)
	}
	slices.SortFunc(forms, func(a, b string) int { return len(b) - len(a) })
	pairs := make([]string, 0, 2*len(forms))
	for _, form := range forms {
		pairs = append(pairs, form, s[form])
	}
	replacer := strings.NewReplacer(pairs...)
	r.Reason = replacer.Replace(r.Reason)
	for i := range r.Problems {
		r.Problems[i] = replacer.Replace(r.Problems[i])
	}
	for i := range r.Exchanges {
		x := &r.Exchanges[i]
		x.Request, x.Answer = replacer.Replace(x.Request), replacer.Replace(x.Answer)
	}
}

// accessTokens returns the access tokens and refresh tokens in an answer.
func accessTokens(v any) (out []string) {
	switch v := v.(type) {
	case map[string]any:
		for name, inner := range v {
			if token, ok := inner.(string); ok && (name == "access_token" || name == "refresh_token") {
				out = append(out, token)
			}
			out = append(out, accessTokens(inner)...)
		}
	case []any:
		for _, inner := range v {
			out = append(out, accessTokens(inner)...)
		}
	}
	return out
}
