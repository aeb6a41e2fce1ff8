package uia_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia"
)

// chance is a source of random numbers for several goroutines.
type chance struct {
	mu sync.Mutex
	*rand.Rand
}

func (c *chance) below(n int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.IntN(n)
}

// oneIn is true once in n times.
func (c *chance) oneIn(n int) bool { return c.below(n) == 0 }

// chaos is a world in which, until it ends, anything may go wrong at any time.
type chaos struct {
	*world
	*chance
	ends time.Time
}

// around makes a call, or does not, or says that it did not.
func (c *chaos) around(_ call, do func() error) error {
	if !time.Now().Before(c.ends) {
		return do()
	}
	switch c.below(60) {
	case 0:
		return errDown
	case 1:
		_ = do()
		return errDown
	case 2:
		wait(c.t, time.Duration(c.below(150))*time.Second)
		return do()
	case 3:
		err := do()
		wait(c.t, time.Duration(c.below(150))*time.Second)
		return err
	case 4:
		wait(c.t, time.Duration(c.below(1000))*time.Millisecond)
	}
	return do()
}

// unreliable makes an operation do what operations do.
func (c *chaos) unreliable(operate uia.Operate) uia.Operate {
	return func(ctx context.Context, s *uia.Session) (uia.Effect, error) {
		if !time.Now().Before(c.ends) {
			return operate(ctx, s)
		}
		switch c.below(10) {
		case 0:
			return uia.Effect{}, uia.NewError(400, spec.InvalidUsername("refused"))
		case 1:
			return uia.Effect{}, errBroken
		case 2:
			_, err := operate(ctx, s)
			panic(err)
		case 3:
			<-ctx.Done()
			return uia.Effect{}, ctx.Err()
		case 4:
			wait(c.t, time.Duration(c.below(200))*time.Second)
		}
		return operate(ctx, s)
	}
}

// visitor sends requests of one session, which it shares with others, without
// rhyme or reason.
func (c *chaos) visitor(processes []*homeserver, session string) {
	for time.Now().Before(c.ends) {
		ctx, hangUp := context.WithTimeout(context.Background(), time.Duration(1+c.below(90))*time.Second)
		auth := dict{"session": session}
		switch c.below(6) {
		case 0, 1:
			auth["type"], auth["token"] = uia.TokenType, []string{"a-secret-x", "a-secret-y", "a-secret-z", "wrong"}[c.below(4)]
		case 2, 3, 4:
			auth["type"] = "m.login.dummy"
		}
		params := dict{"username": fmt.Sprint("user", c.below(12))}
		if c.oneIn(4) {
			params = nil
		}
		a := processes[c.below(len(processes))].postCtx(ctx, with(params, auth))
		hangUp()
		switch {
		case a.Status == 200:
			c.tell(a)
		case a.Status < 400 || a.errcode() == "" && a.Status != 401:
			c.wrong("%d %s", a.Status, a.Body)
		}
		wait(c.t, time.Duration(c.below(40_000))*time.Millisecond)
	}
}

// operator revokes tokens and changes its mind, and recovers.
func (c *chaos) operator(processes []*homeserver) {
	for time.Now().Before(c.ends) {
		wait(c.t, time.Duration(c.below(120))*time.Second)
		switch c.below(3) {
		case 0:
			_, _ = c.db.UpdateToken(context.Background(), "a-secret-x", uia.TokenPatch{Revoked: new(true)}, time.Now())
			wait(c.t, time.Duration(c.below(60))*time.Second)
			_, _ = c.db.UpdateToken(context.Background(), "a-secret-x", uia.TokenPatch{Revoked: new(false)}, time.Now())
		default:
			_, _ = processes[c.below(len(processes))].engine.Recover(context.Background())
		}
	}
}

func runChaos(t *testing.T, flow uia.Flow, tx bool, seed uint64) (accounts int) {
	synctest.Test(t, func(t *testing.T) {
		c := &chaos{world: newWorld(t, flow, tx), chance: &chance{Rand: rand.New(rand.NewPCG(seed, 0))}}
		c.wrong = func(format string, args ...any) {
			t.Helper()
			t.Errorf("seed %d: %s", seed, fmt.Sprintf(format, args...))
		}
		c.ends = time.Now().Add(30 * time.Minute)
		c.token("a-secret-x", 2)
		c.token("a-secret-y", 1)
		c.token("a-secret-z", 1)
		var processes []*homeserver
		for range 3 {
			h := c.process(c.around)
			h.operate = c.unreliable(h.operate)
			processes = append(processes, h)
		}
		var all sync.WaitGroup
		for range 4 {
			a := processes[0].post(dict{})
			session := a.session()
			if session == "" {
				c.wrong("no session: %d %s", a.Status, a.Body)
			}
			c.note(session)
			for range 3 {
				all.Go(func() { c.visitor(processes, session) })
			}
		}
		all.Go(func() { c.operator(processes) })
		all.Wait()

		wait(t, 3*time.Minute) // from here on nothing goes wrong
		processes[0].recovered()
		c.checkAccounts()
		accounts = c.accounts.count()

		// What was not used can be used.
		wait(t, uia.DefaultHoldTTL)
		for value, allowed := range c.allows {
			for n := int64(0); ; n++ {
				token, err := c.db.Token(t.Context(), value, time.Now())
				must(err)
				left := allowed - token.Completed
				a := processes[1].register(fmt.Sprint("after-", value, n), value)
				if (a.Status == 200) != (left > 0) {
					c.wrong("token %s had %d uses left: %d %s", value, left, a.Status, a.Body)
				}
				if a.Status != 200 {
					break
				}
			}
		}
		c.checkAccounts()
	})
	return accounts
}

func TestChaos(t *testing.T) {
	for i := range 4 {
		tx, flow := i&1 > 0, flowT
		if i&2 > 0 {
			flow = flowTD
		}
		t.Run(fmt.Sprintf("flow of %d, in a transaction %t", len(flow), tx), func(t *testing.T) {
			accounts := 0
			for seed := range uint64(chaosRounds) {
				accounts += runChaos(t, flow, tx, seed)
				if t.Failed() {
					break
				}
			}
			t.Logf("%d accounts in %d rounds", accounts, chaosRounds)
		})
	}
}

const chaosRounds = 10
