package register

import (
	"bytes"
	"encoding/json"
	"net/http"

	"github.com/matrix-uia/uia"
)

// Run is what [Registration.Handler] does, for a host whose handlers return their
// response: the status, further header fields, and a body that encodes with
// encoding/json. The host lets only POST through. What Guest or AppService answers is
// returned too, and has to be JSON.
func (reg *Registration) Run(r *http.Request, e *uia.Engine) (status int, header http.Header, body any) {
	if e == nil {
		return uia.Answer(r.Context(), nil, reg.on(nil))
	}
	err := reg.on(e)
	var other http.Handler
	var response json.RawMessage
	if err == nil {
		response, other, err = reg.register(r, e)
	}
	switch {
	case err != nil:
		return e.Answer(r.Context(), err)
	case other != nil:
		kept := keeper{header: http.Header{}, status: http.StatusOK}
		other.ServeHTTP(&kept, r)
		return kept.status, kept.header, json.RawMessage(kept.body.Bytes())
	}
	return http.StatusOK, http.Header{}, response
}

// keeper is an http.ResponseWriter that keeps the answer.
type keeper struct {
	header http.Header
	status int
	wrote  bool
	body   bytes.Buffer
}

func (k *keeper) Header() http.Header { return k.header }

func (k *keeper) WriteHeader(status int) {
	if !k.wrote {
		k.status, k.wrote = status, true
	}
}

func (k *keeper) Write(p []byte) (int, error) {
	k.wrote = true
	return k.body.Write(p)
}
