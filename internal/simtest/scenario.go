package simtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/matrix-uia/uia"
)

// Token is a token of a scenario.
type Token struct {
	Value   string
	Uses    int
	Expires time.Duration // after the beginning; zero is never
}

// Client is what a scenario knows of one session: the legs that its client sends in the
// end until it has an answer, in the order of the flow, and how many of them it has sent
// before anything is explored.
type Client struct {
	Legs []Leg
	Sent int
}

// Scenario is what is explored.
type Scenario struct {
	Name      string
	Flow      uia.Flow
	Processes int             // one more looks at the end, with a right clock
	Skew      []time.Duration // of the clocks
	Steps     bool            // clocks may step
	HoldTTL   time.Duration   // zero means 10 minutes
	Tokens    []Token
	Clients   []Client // by session
	Actors    func(*world) []*actor
	Configure func(w *world, proc int, c *uia.Config)
	AtEnd     func(*world) // further promises
	Unpruned  bool         // its state is not in the digest
	Kinds     string       // of database, if not all

	// Sole says that nobody else wants the sessions' tokens, and that nothing refuses:
	// without a fault each request gets on.
	Sole bool
	// Differ says that requests of one session differ, and so may their answers.
	Differ bool
	// Leaks says that a hold may be left behind without a fault.
	Leaks bool
	// TwoUses says that an account spends a use of each token.
	TwoUses bool
	// Sweeps says that leftovers are removed, by a clock that is further ahead than they are
	// kept: a session may come to no end.
	Sweeps bool

	kind  kind
	begin *beginning
}

// beginning is what the schedules of a scenario begin with.
type beginning struct {
	journal  []write
	sessions []string // IDs
	keys     []string
	allowed  int
	uses     map[string]int
}

// Title names the scenario and its kind of database.
func (sc *Scenario) Title() string { return sc.kind.name + "/" + sc.Name }

func (sc *Scenario) world() *world {
	w := &world{
		sc: sc, kind: sc.kind, db: newDatabase(), locks: map[string]*transaction{}, events: make(chan struct{}, 1), t0: time.Now(),
		unrecorded: map[string]bool{}, uses: map[string]int{}, quiet: map[uint64]bool{}, ran: map[string]int{},
	}
	if sc.begin.sessions != nil {
		w.journal = append(w.journal, sc.begin.journal...)
		w.db = w.rebuild(nil)
		w.allowed = sc.begin.allowed
		maps.Copy(w.uses, sc.begin.uses)
	}
	w.skew = make([]time.Duration, sc.Processes+1)
	w.alive = make([]bool, sc.Processes+1)
	if sc.begin.sessions != nil {
		copy(w.skew, sc.Skew)
	}
	for p := range sc.Processes + 1 {
		w.alive[p] = true
		w.engines = append(w.engines, w.newEngine(p))
	}
	return w
}

// prepare makes the tokens and sends what was sent before, once for all schedules: every
// bubble begins at the same moment.
func (sc *Scenario) prepare(t *testing.T) {
	if sc.begin != nil {
		return
	}
	if sc.HoldTTL == 0 {
		sc.HoldTTL = 10 * time.Minute
	}
	sc.begin = &beginning{uses: map[string]int{}}
	synctest.Test(t, func(t *testing.T) {
		w := sc.world()
		defer w.randomly()()
		sc.createTokens(w)
		for i, c := range sc.Clients {
			_, err := w.engines[0].Authenticate(bg, uia.Request{Operation: "register", Body: []byte(`{}`), Client: address})
			challenge, ok := errors.AsType[*uia.Challenge](err)
			if !ok {
				panic(err)
			}
			sc.begin.sessions = append(sc.begin.sessions, challenge.Session)
			s, err := w.engines[0].Session(bg, challenge.Session)
			if err != nil {
				panic(err)
			}
			sc.begin.keys = append(sc.begin.keys, s.Key)
			for _, leg := range c.Legs[:c.Sent] {
				w.request(bg, 0, i, leg)
			}
		}
		sc.begin.journal = w.journal
	})
}

func (sc *Scenario) createTokens(w *world) {
	for _, tok := range sc.Tokens {
		tt := uia.Token{Value: tok.Value, UsesAllowed: new(int64(tok.Uses))}
		if tok.Expires != 0 {
			tt.Expires = w.t0.Add(tok.Expires)
		}
		if err := (Store{w}).CreateTokens(bg, tt); err != nil {
			panic(err)
		}
		sc.begin.allowed += tok.Uses
		sc.begin.uses[tok.Value] = tok.Uses
	}
	w.allowed, w.uses = sc.begin.allowed, sc.begin.uses
}

// randomly gives the world the random numbers.
func (w *world) randomly() (restore func()) {
	before := rand.Reader
	rand.Reader = source{w}
	return func() { rand.Reader = before }
}

// maxSteps is more than any schedule needs.
const maxSteps = 600

// Play implements Subject.
func (sc *Scenario) Play(t *testing.T, choose Chooser, trace bool) *Outcome {
	sc.prepare(t)
	out := &Outcome{}
	synctest.Test(t, func(t *testing.T) {
		w := sc.world()
		w.tracing = trace
		defer w.randomly()()
		w.actors = sc.Actors(w)
		for i, a := range w.actors {
			a.id, a.w, a.verdict = i, w, make(chan Verdict)
		}
		w.startActors()
		synctest.Wait()
		w.play(choose, out)
		if !out.Aborted && len(w.wrongs) == 0 {
			w.cur = nil
			w.settle()
		}
		if !out.Aborted {
			out.End = w.end()
		}
		w.over = true
		w.unwind()
		out.Wrong, out.Trace = w.wrongs, w.trace
	})
	return out
}

func (w *world) play(choose Chooser, out *Outcome) {
	for step := 0; len(w.wrongs) == 0; step++ {
		opts := w.options()
		if len(opts) == 0 {
			return
		}
		if step > maxSteps {
			w.wrong("it does not end")
			return
		}
		m := Moment{Step: step, Current: -1, Options: opts, State: func() uint64 { return w.digest(true) }}
		if w.sc.Unpruned {
			m.State = nil
		}
		if w.cur != nil {
			m.Current = w.cur.id
			if w.polling() {
				still := w.digest(false)
				m.Quiet = w.quiet[still]
				w.quiet[still] = true
			}
		}
		c, ok := choose(m)
		if !ok {
			out.Aborted = true
			return
		}
		out.Schedule = append(out.Schedule, c)
		w.apply(c)
	}
}

// end is what can be seen at the end of a schedule: by each actor, and of the database.
func (w *world) end() string {
	var b strings.Builder
	for _, a := range w.actors {
		for _, m := range w.told {
			if m.actor == a.name {
				fmt.Fprintln(&b, m.actor, m.status, m.code, m.text)
			}
		}
	}
	w.dump(&b)
	return b.String()
}

// unwind ends the goroutines that are left: one by one, because their deferred calls
// touch the world. Time stands still once the root has returned, so it waits for those
// that wait for a timer.
func (w *world) unwind() {
	for _, a := range w.actors {
		close(a.verdict)
		synctest.Wait()
	}
	for range 20 {
		left := false
		for _, a := range w.actors {
			left = left || !a.done
		}
		if !left {
			return
		}
		w.turns.Add(1)
		time.Sleep(time.Minute)
		synctest.Wait()
	}
}

// client is an actor that sends legs.
func client(name string, proc, session int, legs ...Leg) *actor {
	return script(name, proc, func(ctx context.Context, w *world) {
		for _, l := range legs {
			w.request(ctx, proc, session, l)
		}
	})
}

// script is an actor that does these things.
func script(name string, proc int, steps ...func(ctx context.Context, w *world)) *actor {
	return &actor{name: name, proc: proc, script: func(ctx context.Context, a *actor) {
		for _, s := range steps {
			s(ctx, a.w)
		}
	}}
}

// recoverer is an actor that calls Recover.
func recoverer(proc, times int) *actor {
	return script("recover", proc, func(ctx context.Context, w *world) {
		for range times {
			_, _ = w.engines[proc].Recover(ctx)
		}
	})
}

// twins are actors that do the same: which of them starts first makes no difference.
func twins(a, b *actor) []*actor {
	b.twin = a
	return []*actor{a, b}
}
