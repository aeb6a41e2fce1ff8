// Package wire has the parts of HTTP and of the Client-Server API that the handlers of
// this module share. It is internal because a homeserver has its own.
package wire

import (
	"net/http"

	"github.com/matrix-org/gomatrixserverlib/spec"
)

// Error codes of the Client-Server API that gomatrixserverlib does not name.
const (
	CodeUnauthorized spec.MatrixErrorCode = "M_UNAUTHORIZED"
	CodeTooLarge     spec.MatrixErrorCode = "M_TOO_LARGE"
)

// Header values that are never changed are shared between answers.
var (
	contentTypeJSON = []string{"application/json"}
	cacheNoStore    = []string{"no-store"}
	corsOrigin      = []string{"*"}
	corsMethods     = []string{"GET, POST, PUT, DELETE, OPTIONS"}
	corsHeaders     = []string{"X-Requested-With, Content-Type, Authorization"}
)

// SetCORS sets the headers of the Client-Server API, "Web Browser Clients".
func SetCORS(h http.Header) {
	h["Access-Control-Allow-Origin"] = corsOrigin
	h["Access-Control-Allow-Methods"] = corsMethods
	h["Access-Control-Allow-Headers"] = corsHeaders
}

// WriteJSON writes a Matrix answer whose body is encoded already, with the headers
// that the specification asks for on every answer and Cache-Control: no-store.
func WriteJSON(w http.ResponseWriter, status int, body []byte) {
	h := w.Header()
	SetCORS(h)
	h["Content-Type"] = contentTypeJSON
	h["Cache-Control"] = cacheNoStore
	w.WriteHeader(status)
	_, _ = w.Write(body) // a client that has gone needs no answer
}

// MethodNotAllowed answers a method that an endpoint does not have: OPTIONS with
// the CORS headers, any other with 405 M_UNRECOGNIZED. allow is the value of the
// Allow header, for example "GET"; OPTIONS is added to it.
func MethodNotAllowed(w http.ResponseWriter, r *http.Request, allow string) {
	if r.Method == http.MethodOptions {
		SetCORS(w.Header())
		w.WriteHeader(http.StatusNoContent)
		return
	}
	w.Header().Set("Allow", allow+", OPTIONS")
	WriteJSON(w, http.StatusMethodNotAllowed, []byte(`{"errcode":"M_UNRECOGNIZED","error":"Method not allowed"}`))
}
