// Package stages has authentication stages beyond registration tokens: policies to
// accept, passwords, captchas, e-mail addresses, and stages that are completed elsewhere,
// such as a single sign-on. Each is a [uia.Stage], and each brings its form for the
// fallback page.
package stages

import (
	"encoding/json"
	"net/http"
	"strings"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia"
)

// resultOf decodes what the stage of this type left in the session; false if it is not
// completed, or has left nothing.
func resultOf[T any](s *uia.Session, authType string) (result T, ok bool) {
	raw := s.Result(authType)
	return result, raw != nil && json.Unmarshal(raw, &result) == nil
}

// missing is the answer to auth data without a member that the stage needs.
func missing(name string) error {
	return uia.NewError(http.StatusBadRequest, spec.MissingParam("The member "+name+" of auth is missing."))
}

// enter asks the user of a form for what they have left empty.
func enter(message string) error {
	return uia.NewError(http.StatusBadRequest, spec.MissingParam(message))
}

// object encodes auth data.
func object(members map[string]any) (json.RawMessage, error) {
	if members == nil {
		return json.RawMessage("{}"), nil
	}
	return json.Marshal(members)
}

// localpart returns the localpart of a user ID.
func localpart(userID string) string {
	name, _, _ := strings.Cut(strings.TrimPrefix(userID, "@"), ":")
	return name
}
