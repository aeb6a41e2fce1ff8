package uia

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/matrix-uia/uia/internal/keyring"
	"github.com/matrix-uia/uia/internal/mistake"
	"github.com/matrix-uia/uia/internal/observe"
	"github.com/matrix-uia/uia/internal/recent"
	"github.com/matrix-uia/uia/internal/seal"
	"github.com/matrix-uia/uia/internal/waiting"
)

// Config configures an Engine.
type Config struct {
	// Secrets seal session IDs and records. Required. sqlstore's Store.Secrets rotates
	// them; FixedSecrets(secret) is one secret, of at least 32 random bytes, that does
	// not change.
	Secrets Secrets
	// Stages are the auth types that flows may name.
	Stages []Stage
	// Operations are the guarded endpoints.
	Operations []Operation
	// Sessions keeps the records of sessions that have completed a stage. Required.
	Sessions SessionStore
	// Limiter bounds how many guesses a client may get wrong, over all stages and
	// the validity endpoint together. Nil turns that off.
	Limiter Limiter
	// Client returns the address of the client. Behind proxies that is the address that
	// the host's own proxies report, and never one that a stranger can write into a
	// header: use [ClientBehind]. Required with a Limiter. Without one, nil leaves
	// Request.Client unset.
	Client func(*http.Request) netip.Addr
	// SessionTTL is how long a session may take. Zero means 1 hour. At most 12 hours:
	// stores forget what is a day old.
	SessionTTL time.Duration
	// LeaseTTL is how long one run of an operation may take before another request may
	// take it over. The operation's context ends earlier, after four fifths of it. It is
	// also how long a client waits after a crash, at most, before its next request can
	// finish the registration, and how old a run must be for Recover to decide about it:
	// a short LeaseTTL recovers sooner. A LeaseTTL that is shorter than the slowest
	// operation (a slow hash, a queue of writers) lets runs overtake each other, which
	// costs work but breaks no promise. Zero means 1 minute.
	LeaseTTL time.Duration
	// MaxBody bounds request bodies, in bytes. Zero means 64 KiB.
	MaxBody int64
	// Observer is called with what an operator may want to count or audit; see [Event].
	// Nil for none.
	Observer func(context.Context, Event)
	// Logger gets what went wrong. Nil discards it. Tokens, session IDs,
	// parameters and responses are never logged. A homeserver that logs with another
	// library passes slog.New with a slog.Handler around that: there are such handlers for
	// logrus, zap and zerolog.
	Logger *slog.Logger
	// Now tells the time. Nil means time.Now.
	Now func() time.Time
}

const (
	defaultSessionTTL = time.Hour
	maxSessionTTL     = 12 * time.Hour
	defaultLeaseTTL   = time.Minute
	defaultMaxBody    = 64 << 10
)

// Engine runs User-Interactive Authentication for the operations of a
// homeserver. It is safe for concurrent use, starts no goroutine and needs no
// closing. Several processes that share Secrets and Sessions are one engine.
type Engine struct {
	cfg        Config
	ring       *keyring.Ring[*seal.Keys]
	stages     stageSet
	operations map[string]*operation
	observe    func(context.Context, Event)
	log        *slog.Logger
	now        func() time.Time

	txs       TxStore      // Sessions, if it has transactions
	recovered atomic.Int64 // when Recover was called last, or the Engine made: milliseconds since 1970

	recent recent.Params
	runs   waiting.Runs
}

// New returns an Engine, or every mistake in the configuration at once.
func New(cfg Config) (*Engine, error) {
	e := &Engine{cfg: cfg, operations: make(map[string]*operation)}
	e.setDefaults()
	var m mistake.List
	e.cfg.check(&m)
	if cfg.Secrets != nil {
		m.Add("Secrets: ", e.checkSecrets())
	}
	e.stages = newStages(cfg.Stages, &m)
	e.txs, _ = cfg.Sessions.(TxStore)
	e.addOperations(&m)
	if len(m) > 0 {
		return nil, mistake.In("uia: ", m.Err())
	}
	return e, nil
}

func (e *Engine) setDefaults() {
	if e.log = e.cfg.Logger; e.log == nil {
		e.log = slog.New(slog.DiscardHandler)
	}
	if e.now = e.cfg.Now; e.now == nil {
		e.now = time.Now
	}
	e.recovered.Store(e.now().UnixMilli())
	e.observe = observe.Safely(e.cfg.Observer, e.log)
	setDefault(&e.cfg.SessionTTL, defaultSessionTTL)
	setDefault(&e.cfg.LeaseTTL, defaultLeaseTTL)
	setDefault(&e.cfg.MaxBody, defaultMaxBody)
}

// check finds the mistakes that need nothing but the Config.
func (cfg *Config) check(m *mistake.List) {
	if cfg.Secrets == nil {
		m.Addf("Secrets is required")
	}
	if mistake.IsNil(cfg.Sessions) {
		m.Addf("Sessions is required")
	}
	if cfg.Limiter != nil && mistake.IsNil(cfg.Limiter) {
		m.Addf("Limiter is a nil %T", cfg.Limiter)
	}
	if cfg.Limiter != nil && cfg.Client == nil {
		m.Addf("Client is required with a Limiter")
	}
	if cfg.SessionTTL < 0 {
		m.Addf("SessionTTL is negative")
	}
	if cfg.SessionTTL > maxSessionTTL {
		m.Addf("SessionTTL is more than %v", maxSessionTTL)
	}
	if cfg.LeaseTTL < 0 {
		m.Addf("LeaseTTL is negative")
	}
	if cfg.MaxBody < 0 {
		m.Addf("MaxBody is negative")
	}
}

// checkSecrets asks for the secrets once, so that a source that does not work is noticed
// at the start.
func (e *Engine) checkSecrets() error {
	e.ring = keyring.New(keyring.Source(e.cfg.Secrets), seal.New)
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	_, err := e.ring.Keys(ctx, e.now())
	return err
}

func (e *Engine) addOperations(m *mistake.List) {
	for _, o := range e.cfg.Operations {
		if e.operations[o.Name] != nil {
			m.Addf("two operations are named %q", o.Name)
			continue
		}
		op, err := newOperation(o, e.stages, e.cfg.Sessions)
		m.Add(fmt.Sprintf("operation %q: ", o.Name), err)
		for _, typ := range op.freeFirst(e.stages) {
			e.log.Warn("uia: sessions may begin with a stage that everybody passes: each costs a database write", "operation", o.Name, "stage", typ)
		}
		e.operations[o.Name] = op
	}
}

func setDefault[T time.Duration | int64](v *T, to T) {
	if *v == 0 {
		*v = to
	}
}

// HasOperation reports whether the engine has an operation of this name.
func (e *Engine) HasOperation(name string) bool { return e.operations[name] != nil }

// Stage returns the stage of this auth type, nil if the engine has none.
func (e *Engine) Stage(authType string) Stage {
	if st := e.stages[authType]; st != nil {
		return st.Stage
	}
	return nil
}
