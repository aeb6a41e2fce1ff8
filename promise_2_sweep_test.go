package uia_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
)

var errDown = errors.New("the database cannot be reached")

// fault is what goes wrong at one call that a process makes of the database.
type fault struct {
	name  string
	after bool          // the call takes effect first
	calls int           // how many calls fail; 0: all that follow, the process is dead
	stall time.Duration // the call does not fail, but takes this long
}

var faults = []fault{
	{name: "a call fails", calls: 1},
	{name: "an answer is lost", after: true, calls: 1},
	{name: "an outage of two calls", calls: 2},
	{name: "an outage of three answers", after: true, calls: 3},
	{name: "an outage of five calls", calls: 5},
	{name: "the process dies before a call"},
	{name: "the process dies after a call", after: true},
	{name: "the process stalls before a call", stall: 5 * time.Minute},
	{name: "the process stalls after a call", after: true, stall: 5 * time.Minute},
	{name: "the process stalls for long before a call", stall: 30 * time.Minute},
	{name: "the process stalls for long after a call", after: true, stall: 30 * time.Minute},
}

// injector makes the fault happen at the n-th call.
type injector struct {
	fault
	t  *testing.T
	mu sync.Mutex
	n  int // calls until the fault
	at string
}

func (f *injector) around(c call, do func() error) error {
	f.mu.Lock()
	f.n--
	first := f.n == 0
	now := f.n <= 0 && (f.calls == 0 || -f.n < f.calls)
	if first {
		f.at = c.name
	}
	f.mu.Unlock()
	switch {
	case f.stall > 0 && first:
		if !f.after {
			wait(f.t, f.stall)
		}
		err := do()
		if f.after {
			wait(f.t, f.stall)
		}
		return err
	case f.stall > 0 || !now:
		return do()
	}
	if f.after && (first || f.calls > 0) {
		_ = do()
	}
	return errDown
}

// client is a user's client that does not give up: it hangs up when it gets no
// answer for a minute, tries again after an error, and starts again when its
// session is unknown.
type client struct {
	*world
	name    string
	token   string
	fickle  bool // it gives up instead, when it is not answered as it should be
	ask     func(ctx context.Context, body any) answer
	log     []string
	pending sync.WaitGroup // requests whose answers nobody waits for any more
}

// send returns the answer, or status 0 if there was none within a minute.
func (c *client) send(body any) answer {
	ctx, hangUp := context.WithTimeout(c.t.Context(), time.Minute)
	defer hangUp()
	got := make(chan answer, 1)
	c.pending.Go(func() { got <- c.ask(ctx, body) })
	select {
	case a := <-got:
		return a
	case <-ctx.Done():
		return answer{}
	}
}

// register returns the answer that ends the registration.
func (c *client) register() answer {
	params, session := dict{"username": c.name, "password": "a-secret-password"}, ""
	leg := uia.TokenType
	for range 100 {
		body := params
		if session != "" {
			body = with(params, dict{"type": leg, "session": session, "token": c.token})
		}
		a := c.send(body)
		c.log = append(c.log, fmt.Sprint(leg, " ", a.Status, " ", a.errcode(), a.completed()))
		pause := time.Second
		switch {
		case c.fickle && a.Status != 200 && (a.Status != 401 || a.errcode() != ""):
			return a
		case a.Status == 200:
			c.tell(a)
			return a
		case a.Status == 401:
			if session != a.session() {
				session = a.session()
				c.note(session)
			}
			leg = uia.TokenType
			if slices.Contains(a.completed(), uia.TokenType) {
				leg = "m.login.dummy"
			}
			if a.errcode() != "" {
				pause = time.Minute
			}
		case a.Status == 400 && a.errcode() == "M_UNKNOWN":
			session, leg = "", uia.TokenType
		case a.Status == 400 && a.errcode() == "M_USER_IN_USE", a.Status == 403:
			return a // it was made, and its response is lost
		case a.Status != 0 && a.Status < 500:
			c.wrong("an honest client is told %d %s", a.Status, a.Body)
		}
		wait(c.t, pause)
	}
	c.wrong("the client gets nowhere: %q", c.log)
	return answer{}
}

// sweep lets one registration run with a fault at its n-th call, and checks what
// must hold afterwards. It reports whether there was an n-th call.
func sweep(t *testing.T, flow uia.Flow, tx, fickle bool, f fault, n int) (reached bool) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, flow, tx)
		w.token("a-secret-token", 1)
		in := &injector{fault: f, t: t, n: n}
		c := &client{world: w, name: "alice", token: "a-secret-token", fickle: fickle}
		w.wrong = func(format string, args ...any) {
			t.Helper()
			t.Errorf("call %d (%s): %s\n%q", n, in.at, fmt.Sprintf(format, args...), c.log)
		}
		first := w.process(in.around)
		second := w.process(func(_ call, do func() error) error { return do() })
		c.ask = func(ctx context.Context, body any) answer {
			a := first.postCtx(ctx, body)
			if a.Status >= 500 && f.calls == 0 && f.stall == 0 { // nobody answers for a dead process
				a = second.postCtx(ctx, body)
			}
			return a
		}
		if f.stall > 0 { // a client that got no answer comes back to another process
			c.ask = func(ctx context.Context, body any) answer {
				in.mu.Lock()
				h := first
				if in.n <= 0 {
					h = second
				}
				in.mu.Unlock()
				return h.postCtx(ctx, body)
			}
		}
		last := c.register()
		for range 2 { // the first may meet the fault
			wait(t, 2*time.Minute)
			_, _ = first.engine.Recover(t.Context())
		}
		c.pending.Wait()
		wait(t, 2*time.Minute)
		second.recovered()
		w.checkAccounts()
		reached = in.n <= 0

		made := w.accounts.byName["@alice:test"] != ""
		if !made && (last.Status == 200 || !fickle) {
			w.wrong("no account came of it")
		}
		wait(t, uia.DefaultHoldTTL)
		if bob := second.register("bob", "a-secret-token"); (bob.Status == 200) == made {
			w.wrong("account %t, and then the next one gets %d %s", made, bob.Status, bob.Body)
		}
		w.checkAccounts()
	})
	return reached
}

func TestEveryCallCanFail(t *testing.T) {
	for i := range 8 {
		tx, fickle, flow := i&1 > 0, i&2 > 0, flowT
		if i&4 > 0 {
			flow = flowTD
		}
		t.Run(fmt.Sprintf("flow of %d, in a transaction %t, client gives up %t", len(flow), tx, fickle), func(t *testing.T) {
			for _, f := range faults {
				t.Run(f.name, func(t *testing.T) {
					n := 1
					for sweep(t, flow, tx, fickle, f, n) {
						n++
					}
					require.Greater(t, n, 8, "the sweep has swept")
				})
			}
		})
	}
}
