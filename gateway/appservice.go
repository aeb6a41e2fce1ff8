package gateway

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia"
)

// appServiceParams are the members of an application service's registration.
var appServiceParams = []string{"type", "username", "device_id", "initial_device_display_name", "inhibit_login", "refresh_token"}

// appService passes the registration of an application service on, which the
// upstream authenticates by the service's token. Nothing else is passed on: some
// upstreams take such a request without a token, or one that is for a guest too, for
// an ordinary registration.
func (h *Handler) appService(w http.ResponseWriter, r *http.Request) {
	query := url.Values{}
	for _, name := range []string{"access_token", "user_id"} {
		if v := r.URL.Query().Get(name); v != "" {
			query.Set(name, v)
		}
	}
	if !strings.HasPrefix(r.Header.Get("Authorization"), "Bearer ") && !query.Has("access_token") {
		h.engine.WriteError(w, r, uia.NewError(http.StatusUnauthorized, spec.MissingToken("Missing access token")))
		return
	}
	body, err := io.ReadAll(r.Body) // package register has made it readable again
	var sent map[string]json.RawMessage
	if err != nil || json.Unmarshal(body, &sent) != nil {
		h.engine.WriteError(w, r, uia.NewError(http.StatusBadRequest, spec.NotJSON("The request body is not JSON.")))
		return
	}
	passed := map[string]json.RawMessage{}
	for _, name := range appServiceParams {
		if v, ok := sent[name]; ok {
			passed[name] = v
		}
	}
	body, err = json.Marshal(passed)
	if err != nil {
		h.engine.WriteError(w, r, err)
		return
	}
	out := r.Clone(r.Context())
	out.URL.Path, out.URL.RawPath, out.URL.RawQuery = registerPath, "", query.Encode()
	out.Body, out.ContentLength, out.TransferEncoding = io.NopCloser(bytes.NewReader(body)), int64(len(body)), nil
	out.Header.Del("Content-Length")
	h.proxy.ServeHTTP(w, out)
}
