package uia

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/matrix-uia/uia/form"
	"github.com/matrix-uia/uia/internal/flow"
	"github.com/matrix-uia/uia/internal/record"
)

// Session is what stages, checks and operations see of one client's way through
// a flow. It belongs to one request: nothing that is changed in it is kept.
type Session struct {
	// ID is what the client calls the session. It is a secret: it opens the
	// session's record and must not be stored or logged.
	ID string
	// Key is what everybody else calls it: the operation's name, a dot and a
	// digest of the ID in URL-safe base64. It can be stored, and it is the
	// idempotency key of the operation: the host makes at most one account per
	// key, by a unique index.
	Key string
	// Operation, Subject and Target are as in the Request that opened the session.
	Operation string
	Subject   string
	Target    string
	// Client is the address of the client that made this request.
	Client netip.Addr
	// Params is the JSON object of the effective parameters: the request's body
	// without auth, or what is remembered of an earlier request. Never nil. Read
	// it with [Session.Param].
	Params json.RawMessage
	// Flows are those that the session offers. They are shared: do not change them.
	Flows []Flow
	// Completed lists the completed auth types in order.
	Completed []string
	// Expires is when the session ends.
	Expires time.Time
	// Run is the number of the run while the operation runs, else zero. Of two runs of a
	// session the later one has the greater number: a host can use it to let what a later
	// run writes win over what an earlier one wrote.
	Run int64
	// Prepared is what Operation.Prepare has returned for this run; nil without it.
	Prepared any
	// Now is the time of this request: stages and checks use it and read no clock.
	Now time.Time

	completed []record.Completion
	openings  []string
	describe  func(*Session, form.Say) string // nil for none
	anyOrder  bool
	running   bool // its operation runs
}

// operationOf returns the name of the operation that a Session.Key belongs to.
func operationOf(key string) string {
	name, _, _ := strings.Cut(key, ".")
	return name
}

// Param decodes one member of Params; see [Field].
func (s *Session) Param(name string, into any) (bool, error) {
	return Field(s.Params, name, into)
}

// Result returns what the stage of this type left when it was completed, nil if it left
// nothing or is not completed. Read it in the operation: results are not kept after the
// operation has taken effect.
func (s *Session) Result(authType string) json.RawMessage {
	for _, c := range s.completed {
		if c.Type == authType {
			return c.Result
		}
	}
	return nil
}

// Has reports whether the stage of this type is completed.
func (s *Session) Has(authType string) bool { return slices.Contains(s.Completed, authType) }

// Next lists the auth types that can be completed next, in the order in which the
// flows name them: none if a flow is completed, or the session's operation runs.
func (s *Session) Next() []string {
	if s.running {
		return nil
	}
	return flow.Next(s.Flows, s.Completed, s.anyOrder)
}

// Describe says in a few words what the session authorises: what Operation.Describe
// says, or else the operation's name. say puts it into the user's language; nil says it in
// English.
func (s *Session) Describe(say form.Say) string {
	if s.describe == nil {
		return s.Operation
	}
	if say == nil {
		say = form.Fill
	}
	return s.describe(s, say)
}

// Opening returns what the stage of this type has remembered since the session
// was opened ([OpeningStage]); "" if nothing.
func (s *Session) Opening(authType string) string {
	for i := 0; i+1 < len(s.openings); i += 2 {
		if s.openings[i] == authType {
			return s.openings[i+1]
		}
	}
	return ""
}

// sessionKey returns the Session.Key of the session whose ID has this digest.
func sessionKey(operation string, digest [sha256.Size]byte) string {
	var room [128]byte // on the stack: the key alone is allocated
	key := append(append(room[:0], operation...), '.')
	return string(base64.RawURLEncoding.AppendEncode(key, digest[:]))
}

// setCompleted makes the session show these completions.
func (s *Session) setCompleted(list []record.Completion) {
	s.completed = list
	s.Completed = make([]string, len(list))
	for i, c := range list {
		s.Completed[i] = c.Type
	}
}
