package record

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"slices"

	"github.com/matrix-uia/uia/internal/canonical"
)

// MaxRemembered bounds the parameters that a session ID carries, in bytes.
const MaxRemembered = 1024

var (
	// ErrChanged says that the parameters are others than the frozen ones.
	ErrChanged = errors.New("record: the parameters have changed")
	// ErrMissing says that parameters were sent when the session was opened, and are
	// neither sent again nor remembered.
	ErrMissing = errors.New("record: the parameters are missing")
)

// HasMembers reports whether a canonical object has members.
func HasMembers(object []byte) bool { return len(object) > len("{}") }

// Digest stands for the parameters of the request that opened a session.
func Digest(params []byte) []byte {
	sum := sha256.Sum256(params)
	return sum[:16]
}

// Remembered returns those of the parameters that the session ID is to carry: the named
// ones, nil if they are none or too large. Where parameters are frozen it carries all of
// them or none, because a part of them would be other parameters.
func Remembered(params []byte, names []string, mutable bool) []byte {
	out := make([]byte, 0, len(params))
	for name, value := range canonical.Members(params) {
		if slices.Contains(names, string(name[1:len(name)-1])) {
			out = append(append(append(append(out, ','), name...), ':'), value...)
		}
	}
	if len(out) == 0 || len(out) >= MaxRemembered || !mutable && len(out)+len("}") < len(params) {
		return nil
	}
	out[0] = '{'
	return append(out, '}')
}

// Params is what decides which parameters count for a request, of a session whose
// operation neither runs nor is done. All are objects in canonical form.
type Params struct {
	Sent       []byte // of this request; {} if it has none
	Recorded   []byte // Data.Params
	Recent     []byte // of a request that came before there was a record; nil if unknown
	Remembered []byte // what the session ID carries; nil for nothing
	Opening    []byte // the Digest of the opening request's; empty if it had none
	Mutable    bool   // later parameters replace earlier ones
}

// Settle returns the parameters that count, and whether the session already had them. It
// returns nil if there never were any.
//
// A request without parameters has those of an earlier one. Where parameters are frozen,
// the frozen ones are those of the request that opened the session or, if it had none,
// those of the request that completed the first stage, which may have had none either.
func (p Params) Settle() (params []byte, known bool, err error) {
	before := p.Remembered
	switch {
	case p.Recorded != nil:
		before = p.Recorded
	case p.Recent != nil:
		before = p.Recent
	}
	switch same := bytes.Equal(p.Sent, before); {
	case HasMembers(p.Sent) && (p.Mutable || !p.changed()):
		return p.Sent, same, nil
	case HasMembers(p.Sent):
		return nil, same, ErrChanged
	case before != nil:
		return before, true, nil
	case len(p.Opening) > 0:
		return nil, true, ErrMissing
	}
	return nil, true, nil
}

// changed reports whether the parameters of the request differ from the frozen ones.
func (p Params) changed() bool {
	if len(p.Opening) > 0 {
		return !bytes.Equal(Digest(p.Sent), p.Opening)
	}
	return p.Recorded != nil && !bytes.Equal(p.Sent, p.Recorded)
}
