package fallback

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"unicode/utf8"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/internal/panics"
)

// submission is the result of a submitted form.
type submission struct {
	values  url.Values
	extra   map[string]json.RawMessage // what the stage has returned to continue
	failure error
}

// submit attempts the stage with what was submitted.
func (h *Handler) submit(r *http.Request, st uia.FallbackStage, s *uia.Session) (sent submission) {
	req, err := h.engine.Request(r, uia.Caller{})
	if sent.values, sent.failure = values(req.Body, err); sent.failure != nil {
		return sent
	}
	s.Client = req.Client
	auth, err := formAuth(st, s, sent.values)
	if err == nil {
		err = h.engine.Attempt(r.Context(), s, st.Type(), auth)
	}
	if next, ok := errors.AsType[*uia.Continue](err); ok {
		sent.extra = next.Extra
		return sent
	}
	sent.failure = err
	return sent
}

// formAuth makes auth data of a submitted form. Its errors name the stage.
func formAuth(st uia.FallbackStage, s *uia.Session, sent url.Values) (auth json.RawMessage, err error) {
	defer named(st, &err)
	defer panics.ToError(&err)
	return st.FormAuth(s, sent)
}

// values reads a submitted form, whatever its Content-Type.
func values(body []byte, err error) (url.Values, error) {
	if refusal, ok := errors.AsType[*uia.Error](err); ok && refusal.Status == http.StatusRequestEntityTooLarge {
		return nil, errLargeForm
	}
	if err != nil {
		return nil, errBadForm
	}
	values, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, errBadForm
	}
	for name, list := range values {
		if len(list) != 1 || !utf8.ValidString(name) || !utf8.ValidString(list[0]) {
			return nil, errBadForm
		}
	}
	return values, nil
}
