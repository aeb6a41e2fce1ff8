package fallback

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/catalog"
	"github.com/matrix-uia/uia/internal/stageform"
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
	if sent.values, sent.failure = stageform.Values(req.Body, err); sent.failure != nil {
		return sent
	}
	s.Client = req.Client
	auth, err := stageform.Auth(st, s, sent.values)
	if err == nil {
		lang, _ := h.Language(r)
		err = h.engine.Attempt(catalog.NewContext(r.Context(), lang), s, st.Type(), auth)
	}
	if next, ok := errors.AsType[*uia.Continue](err); ok {
		sent.extra = next.Extra
		return sent
	}
	sent.failure = err
	return sent
}
