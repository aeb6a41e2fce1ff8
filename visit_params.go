package uia

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"net/http"
	"slices"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia/internal/canonical"
	"github.com/matrix-uia/uia/internal/flow"
)

var (
	errChangedParams = NewError(http.StatusForbidden, spec.Forbidden("The parameters have changed since the session was opened."))
	errMissingParams = NewError(http.StatusBadRequest, spec.MissingParam("The parameters of the request are missing."))
)

func paramsDigest(params []byte) []byte {
	sum := sha256.Sum256(params)
	return sum[:16]
}

// remembered returns the parameters that the session ID is to carry; nil if they
// are none or too large. Where parameters are frozen it carries all of them or
// none: a part of them would be other parameters.
func (v *visit) remembered() []byte {
	out := pick(v.params, v.op.Remember)
	if !v.op.Mutable && len(out) < len(v.params) {
		return nil
	}
	return out
}

// pick returns the named members of an object; nil if there are none, or more than
// a session ID carries.
func pick(object []byte, names []string) []byte {
	out := make([]byte, 0, len(object))
	for name, value := range canonical.Members(object) {
		if slices.Contains(names, string(name[1:len(name)-1])) {
			out = append(append(append(append(out, ','), name...), ':'), value...)
		}
	}
	if len(out) == 0 || len(out) >= maxRemembered {
		return nil
	}
	out[0] = '{'
	return append(out, '}')
}

// settleParams decides which parameters count, for a session whose operation
// neither runs nor is done. It reports whether they are those that the session
// already had.
func (v *visit) settleParams() (known bool, err error) {
	before := []byte(v.data.Params)
	if before == nil && v.rec.Revision == 0 {
		before = v.e.recent.Find(v.s.Key, v.s.Now)
	}
	if before == nil {
		before = v.ticket.Remembered
	}
	switch {
	case !v.sendsParams():
		return true, v.recall(before)
	case v.op.Mutable:
		return bytes.Equal(v.params, before), nil
	}
	return bytes.Equal(v.params, before), v.checkFrozen()
}

// recall gives a request that brings no parameters those of an earlier request.
func (v *visit) recall(before []byte) error {
	if before != nil {
		v.s.Params = before
		return nil
	}
	if len(v.ticket.Digest) == 0 || v.data.Params != nil {
		return nil // there never were any
	}
	v.paramsMissing = true
	if v.poll() && !flow.Done(v.s.Flows, v.s.Completed, v.op.AnyOrder) {
		return nil // it gets the completed stages, and runs nothing
	}
	return errMissingParams
}

// checkFrozen refuses parameters that differ from the frozen ones. Frozen are the
// parameters of the request that opened the session or, if it had none, those of the
// request that completed the first stage, which may have had none either.
func (v *visit) checkFrozen() error {
	digest := paramsDigest(v.params)
	switch {
	case len(v.ticket.Digest) > 0:
		if !bytes.Equal(digest, v.ticket.Digest) {
			return errChangedParams
		}
	case v.data.Params != nil && !bytes.Equal(v.params, v.data.Params):
		return errChangedParams
	}
	return nil
}

// resettle settles the parameters once more when another request may have changed the
// record: that request may have frozen other parameters than this one brings.
func (v *visit) resettle() error {
	if v.rec.Revision == 0 || v.rec.State == Done || v.running() {
		return nil
	}
	_, err := v.settleParams()
	return err
}

// sameClient reports whether the request proves to come from the client for which
// the operation was run: it is the same request, or brings the same parameters, or
// brings none and has the access token of the same user. A session ID alone proves
// nothing, because the logs of proxies have it.
func (v *visit) sameClient() bool {
	switch {
	case hmac.Equal(v.data.Request, v.keys.MAC(v.s.Key, v.body)):
		return true
	case v.sendsParams():
		return v.data.Sent != nil && hmac.Equal(v.data.Sent, v.keys.MAC(v.s.Key, v.params))
	}
	return v.s.Subject != ""
}

// mayRun reports whether the request may have the operation run in a session whose flow
// is completed: it brings the parameters, or no parameters are missing, or it repeats a
// request for which the operation has already run.
func (v *visit) mayRun() bool {
	return v.sendsParams() || !hasMembers(v.s.Params) || v.sameClient()
}
