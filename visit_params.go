package uia

import (
	"net/http"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia/internal/flow"
	"github.com/matrix-uia/uia/internal/record"
)

var (
	errChangedParams = NewError(http.StatusForbidden, spec.Forbidden("The parameters have changed since the session was opened."))
	errMissingParams = NewError(http.StatusBadRequest, spec.MissingParam("The parameters of the request are missing."))
)

// settleParams decides which parameters count, for a session whose operation
// neither runs nor is done. It reports whether they are those that the session
// already had.
func (v *visit) settleParams() (known bool, err error) {
	p := record.Params{
		Sent: v.params, Recorded: v.data.Params, Remembered: v.ticket.Remembered, Opening: v.ticket.Digest, Mutable: v.op.Mutable,
	}
	if v.rec.Revision == 0 {
		p.Recent = v.e.recent.Find(v.s.Key, v.s.Now)
	}
	params, known, err := p.Settle()
	switch err {
	case record.ErrChanged:
		return known, errChangedParams
	case record.ErrMissing:
		v.paramsMissing = true
		if v.poll() && !flow.Done(v.s.Flows, v.s.Completed, v.op.AnyOrder) {
			return known, nil // it gets the completed stages, and runs nothing
		}
		return known, errMissingParams
	}
	if params != nil {
		v.s.Params = params
	}
	return known, nil
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

// client returns what the request shows of the client that sends it.
func (v *visit) client() record.Client {
	return record.Client{Keys: v.keys, Key: v.s.Key, Body: v.body, Params: v.params, User: v.s.Subject != ""}
}

// sameClient reports whether the request proves to come from the client for which
// the operation was run.
func (v *visit) sameClient() bool { return v.data.RanFor(v.client()) }

// mayRun reports whether the request may have the operation run in a session whose flow
// is completed: it brings the parameters, or no parameters are missing, or it repeats a
// request for which the operation has already run.
func (v *visit) mayRun() bool {
	return v.sendsParams() || !record.HasMembers(v.s.Params) || v.sameClient()
}
