package uia

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Flow is the auth types of one flow, in the order in which a client completes
// them.
type Flow []string

// Operation is one guarded endpoint.
type Operation struct {
	// Name is sealed into the sessions of the operation, and begins their keys: 1
	// to 32 of the characters a-z 0-9 _
	Name string
	// Flows are offered in this order. Either they or FlowsFor are required.
	Flows []Flow
	// FlowsFor returns the flows for one request, where they depend on the user.
	// It is called when a session is opened, and the session keeps them.
	FlowsFor func(ctx context.Context, r Request) ([]Flow, error)
	// Mutable lets the parameters of a later request replace those of an earlier
	// one, as /register needs: clients send username and password when they have
	// them. Otherwise a session is good for the parameters it was opened with, or
	// if it was opened without any, for those of the first completed stage.
	Mutable bool
	// Remember names the parameters that the session ID carries, so that a client
	// may leave them out later. They are remembered together, if they fit 1 KiB;
	// without Mutable only if they are all that the request had.
	Remember []string
	// AnyOrder accepts the stages of a flow out of order. The specification says
	// that they must be completed in order.
	AnyOrder bool
	// Check looks at Session.Params before any authentication, and returns an
	// *Error to refuse them. It runs for each request that brings parameters, but
	// not for a session whose operation runs or is done. Nil accepts all.
	Check func(ctx context.Context, s *Session) error
	// Resolve tells whether the operation of the session with this key took
	// effect. It is asked after a crash, a timeout or an unexpected error, and may
	// answer "no" only once that key can never succeed again: for example after
	// putting a tombstone under the unique index of the keys. Required if a flow
	// has a TxStage. Where the operation runs under FinishTx, use [NotDone].
	Resolve func(ctx context.Context, key string) (Outcome, error)
	// Describe says in a few words what is being authorised ("create the account
	// @alice:example.org"), for the fallback page. Nil shows the Name.
	Describe func(*Session) string
}

// Outcome is what became of an operation.
type Outcome struct {
	// Done says that it took effect, for UserID.
	Done   bool
	UserID string
	// Body is the response for the client, if it can be told again; nil if not.
	Body any
}

// NotDone is the Resolve of an operation that runs under [Grant.FinishTx]: what
// its transaction did not commit has not happened, and never will, because the
// transaction carries the attempt.
func NotDone(context.Context, string) (Outcome, error) { return Outcome{}, nil }

// Config configures an Engine.
type Config struct {
	// Secret seals session IDs and records. At least 32 random bytes, the same in
	// every process of the homeserver. Required. Whoever has it and a database dump
	// still needs a session ID to open that session's record; since session IDs
	// reach the logs of proxies, rotate it (daily, say): put the old one into
	// OldSecrets, and destroy it after SessionTTL.
	Secret []byte
	// OldSecrets still open sessions. They seal no new ones.
	OldSecrets [][]byte
	// Stages are the auth types that flows may name.
	Stages []Stage
	// Operations are the guarded endpoints.
	Operations []Operation
	// Sessions keeps the records of sessions that have completed a stage. Required.
	Sessions SessionStore
	// Limiter bounds how many guesses a client may get wrong, over all stages and
	// the validity endpoint together. Nil turns that off.
	Limiter Limiter
	// Client tells who is asking: the address behind the host's own proxies, and
	// no header that a stranger can set. Required with a Limiter; nil otherwise
	// leaves Request.Client unset.
	Client func(*http.Request) netip.Addr
	// SessionTTL is how long a session may take. Zero means 1 hour.
	SessionTTL time.Duration
	// ClaimTTL is how long one run of an operation may take before another request
	// may take it over. The operation's context ends earlier. Zero means 1 minute.
	ClaimTTL time.Duration
	// MaxBody bounds request bodies, in bytes. Zero means 64 KiB.
	MaxBody int64
	// Observer is told of what an operator may want to count or audit; see [Event].
	// Nil for nobody.
	Observer func(context.Context, Event)
	// Logger gets what went wrong. Nil discards it. Tokens, session IDs,
	// parameters and responses are never logged.
	Logger *slog.Logger
	// Now tells the time. Nil means time.Now.
	Now func() time.Time
}

const (
	defaultSessionTTL = time.Hour
	defaultClaimTTL   = time.Minute
	defaultMaxBody    = 64 << 10
)

// Engine runs User-Interactive Authentication for the operations of a
// homeserver. It is safe for concurrent use, starts no goroutine and needs no
// closing. Several processes that share Secret and Sessions are one engine.
type Engine struct {
	cfg        Config
	ring       []*keys // the first seals
	stages     map[string]*stage
	operations map[string]*operation
	log        *slog.Logger
	now        func() time.Time

	mu      sync.Mutex
	running map[string]chan struct{} // by session key: closed when the run in this process ends
}

// stage is a Stage with what it can do, asserted once.
type stage struct {
	Stage
	params   ParamsStage
	opening  OpeningStage
	fallback FallbackStage
	tx       TxStage
	sweeper  Sweeper
}

// operation is an Operation with what can be worked out beforehand.
type operation struct {
	Operation
	digest    []byte // of the static flows
	flowsJSON []byte
	opening   []*stage // the stages of the static flows that remember something
	params    []*stage // those that have public parameters
}

// New returns an Engine, or every mistake in the configuration at once.
func New(cfg Config) (*Engine, error) {
	e := &Engine{
		cfg:        cfg,
		stages:     make(map[string]*stage),
		operations: make(map[string]*operation),
		log:        cfg.Logger,
		now:        cfg.Now,
		running:    make(map[string]chan struct{}),
	}
	if e.log == nil {
		e.log = slog.New(slog.DiscardHandler)
	}
	if e.now == nil {
		e.now = time.Now
	}
	setDefault(&e.cfg.SessionTTL, defaultSessionTTL)
	setDefault(&e.cfg.ClaimTTL, defaultClaimTTL)
	setDefault(&e.cfg.MaxBody, defaultMaxBody)

	var mistakes []error
	mistake := func(format string, args ...any) {
		mistakes = append(mistakes, fmt.Errorf("uia: "+format, args...))
	}
	for i, secret := range append([][]byte{cfg.Secret}, cfg.OldSecrets...) {
		k, err := newKeys(secret)
		switch {
		case err == nil:
			e.ring = append(e.ring, k)
		case i == 0:
			mistake("Secret: %w", err)
		default:
			mistake("OldSecrets[%d]: %w", i-1, err)
		}
	}
	if cfg.Sessions == nil {
		mistake("Sessions is required")
	}
	if cfg.Limiter != nil && cfg.Client == nil {
		mistake("Client is required with a Limiter")
	}
	if e.cfg.SessionTTL < 0 || e.cfg.ClaimTTL < 0 || e.cfg.MaxBody < 0 {
		mistake("SessionTTL, ClaimTTL and MaxBody cannot be negative")
	}
	for i, s := range cfg.Stages {
		switch {
		case s == nil:
			mistake("Stages[%d] is nil", i)
		case s.Type() == "":
			mistake("Stages[%d] has no type", i)
		case e.stages[s.Type()] != nil:
			mistake("two stages are of type %q", s.Type())
		default:
			e.stages[s.Type()] = newStage(s)
			if c, ok := s.(ConfiguredStage); ok {
				if err := c.Configured(); err != nil {
					mistake("stage %q: %w", s.Type(), err)
				}
			}
		}
	}
	for _, o := range cfg.Operations {
		if e.operations[o.Name] != nil {
			mistake("two operations are named %q", o.Name)
			continue
		}
		op, err := e.newOperation(o)
		if err != nil {
			mistakes = append(mistakes, err)
		}
		e.operations[o.Name] = op
	}
	if err := errors.Join(mistakes...); err != nil {
		return nil, err
	}
	return e, nil
}

func setDefault[T time.Duration | int64](v *T, to T) {
	if *v == 0 {
		*v = to
	}
}

func newStage(s Stage) *stage {
	out := &stage{Stage: s}
	out.params, _ = s.(ParamsStage)
	out.opening, _ = s.(OpeningStage)
	out.fallback, _ = s.(FallbackStage)
	out.tx, _ = s.(TxStage)
	out.sweeper, _ = s.(Sweeper)
	return out
}

func (e *Engine) newOperation(o Operation) (*operation, error) {
	var mistakes []error
	mistake := func(format string, args ...any) {
		mistakes = append(mistakes, fmt.Errorf("uia: operation %q: "+format, append([]any{o.Name}, args...)...))
	}
	if !validOperationName(o.Name) {
		mistake("a name is 1 to 32 of the characters a-z 0-9 _")
	}
	if (len(o.Flows) > 0) == (o.FlowsFor != nil) {
		mistake("exactly one of Flows and FlowsFor is required")
	}
	o.Flows = slices.Clone(o.Flows)
	for i, f := range o.Flows {
		o.Flows[i] = slices.Clone(f)
	}
	if err := e.checkFlows(o.Flows, o.AnyOrder); err != nil {
		mistake("%w", err)
	}
	mayHold := o.FlowsFor != nil && slices.ContainsFunc(e.cfg.Stages, func(s Stage) bool { _, ok := s.(TxStage); return ok })
	op := &operation{Operation: o, digest: flowsDigest(o.Flows, o.AnyOrder), flowsJSON: encodeFlows(o.Flows)}
	for _, s := range e.stagesOf(o.Flows) {
		mayHold = mayHold || s.tx != nil
		if s.opening != nil {
			op.opening = append(op.opening, s)
		}
		if s.params != nil {
			op.params = append(op.params, s)
		}
	}
	if mayHold && o.Resolve == nil {
		mistake("Resolve is required, because a stage sets something aside")
	}
	for _, f := range o.Flows {
		if len(f) > 0 && f[0] == (DummyStage{}).Type() {
			e.log.Warn("uia: a flow begins with a stage that proves nothing: its sessions cost a database write each", "operation", o.Name, "flow", f)
		}
	}
	return op, errors.Join(mistakes...)
}

func validOperationName(name string) bool {
	if name == "" || len(name) > 32 {
		return false
	}
	for _, c := range []byte(name) {
		if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '_') {
			return false
		}
	}
	return true
}

// checkFlows returns every mistake in a set of flows.
func (e *Engine) checkFlows(flows []Flow, anyOrder bool) error {
	var mistakes []error
	for i, f := range flows {
		if len(f) == 0 {
			mistakes = append(mistakes, fmt.Errorf("flow %d is empty", i))
		}
		for j, typ := range f {
			if e.stages[typ] == nil {
				mistakes = append(mistakes, fmt.Errorf("flow %v names the stage %q, which is not registered", f, typ))
			}
			if slices.Contains(f[:j], typ) {
				mistakes = append(mistakes, fmt.Errorf("flow %v has the stage %q twice", f, typ))
			}
		}
		for j, other := range flows {
			switch {
			case i == j || len(f) > len(other) || len(f) == 0:
			case len(f) == len(other) && j < i:
			case len(f) == len(other) && begins(other, f, anyOrder):
				mistakes = append(mistakes, fmt.Errorf("flow %v is there twice", f))
			case begins(other, f, anyOrder):
				mistakes = append(mistakes, fmt.Errorf("flow %v is the beginning of flow %v, which could never be completed: append m.login.dummy to it", f, other))
			}
		}
	}
	return errors.Join(mistakes...)
}

// begins reports whether a client that has completed these stages may be on its
// way through the flow.
func begins(f Flow, completed []string, anyOrder bool) bool {
	if len(completed) > len(f) {
		return false
	}
	if !anyOrder {
		return slices.Equal(f[:len(completed)], completed)
	}
	for _, typ := range completed {
		if !slices.Contains(f, typ) {
			return false
		}
	}
	return true
}

// complete reports whether one of the flows has been completed.
func complete(flows []Flow, completed []string, anyOrder bool) bool {
	return slices.ContainsFunc(flows, func(f Flow) bool {
		return len(f) == len(completed) && begins(f, completed, anyOrder)
	})
}

// isNext reports whether the stage may be attempted after the completed ones.
func isNext(flows []Flow, completed []string, anyOrder bool, typ string) bool {
	return slices.ContainsFunc(flows, func(f Flow) bool {
		if len(completed) >= len(f) || !begins(f, completed, anyOrder) {
			return false
		}
		if anyOrder {
			return slices.Contains(f, typ) && !slices.Contains(completed, typ)
		}
		return f[len(completed)] == typ
	})
}

func flowsDigest(flows []Flow, anyOrder bool) []byte {
	encoded, _ := json.Marshal(flows) // strings always encode
	if anyOrder {
		encoded = append(encoded, '*')
	}
	sum := sha256.Sum256(encoded)
	return sum[:16]
}

// stagesOf returns each registered stage that the flows name, once.
func (e *Engine) stagesOf(flows []Flow) (out []*stage) {
	for _, f := range flows {
		for _, typ := range f {
			if s := e.stages[typ]; s != nil && !slices.Contains(out, s) {
				out = append(out, s)
			}
		}
	}
	return out
}
