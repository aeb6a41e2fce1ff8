package storetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/matrix-uia/uia"
)

// stormCases race many callers against each other.
var stormCases = []promise{{
	name: "storm",
	says: "Every method is atomic and safe for concurrent use, by other processes too if the store is shared between processes.",
	test: func(k *kit) { k.storm(storm{sessions: 24, owners: 1, limit: 7}) },
}, {
	name: "storm-with-skewed-clocks",
	says: "So clocks decide who gets a use, and never how many there are.",
	test: func(k *kit) { k.storm(storm{sessions: 24, owners: 1, limit: 7, skew: hour}) },
}, {
	name: "storm-with-several-owners",
	says: "A use bears the run that pinned it last, and refuses every claim with a lower one.",
	test: func(k *kit) { k.storm(storm{sessions: 10, owners: 3, limit: 4, skew: hour}) },
}, {
	name: "race-for-one-session",
	says: "For a session that has a held use of the token, lapsed or not, it moves Until and takes no second use:",
	test: func(k *kit) {
		k.limited("t", 1)
		k.race(8, func(i int) {
			if err := k.Reserve(k.ctx, uia.Hold{Token: "t", Session: "a", Until: at(minute)}, at(0)); err != nil {
				k.Errorf("Reserve: %v", err)
			}
		})
		k.rows("t", "a held #0 1m0s")
		k.race(8, func(i int) {
			err := k.Pin(k.ctx, uia.Claim{Token: "t", Session: "a", Run: int64(i + 1)}, at(0))
			if err != nil && !errors.Is(err, uia.ErrNotHeld) {
				k.Errorf("Pin: %v", err)
			}
		})
		k.rows("t", "a pinned #8")
		k.once(8, uia.ErrSpent, func(i int) error {
			return k.Commit(k.ctx, uia.Claim{Token: "t", Session: "a", Run: 8}, fmt.Sprint("@", i), at(0))
		})
		k.counts("t", 0, 0, 1)
	},
}, {
	name: "race-to-create-and-delete",
	says: "Of two concurrent calls one returns nil, the other ErrNotFound.",
	test: func(k *kit) {
		k.once(8, uia.ErrExists, func(int) error { return k.CreateTokens(k.ctx, uia.Token{Value: "other"}, uia.Token{Value: "t"}) })
		k.once(8, uia.ErrNotFound, func(int) error { return k.DeleteToken(k.ctx, "t") })
		k.same("tokens", k.list(uia.TokenQuery{}, 0), []string{"other"})
	},
}, {
	name: "race-to-save",
	says: "Otherwise it returns ErrConflict and changes nothing.",
	test: func(k *kit) {
		save := func(revision int64) func(int) error {
			return func(i int) error {
				_, err := k.SaveSession(k.ctx, uia.Record{Key: "k", Revision: revision, State: uia.Open, Expires: at(hour)}, at(0))
				return err
			}
		}
		k.once(8, uia.ErrConflict, save(0))
		k.once(8, uia.ErrConflict, save(1))
		// Eight count to ten each: no increment is lost.
		k.save(uia.Record{Key: "n", State: uia.Open, Expires: at(hour), Data: []byte("0")}, 0)
		k.race(8, func(int) {
			for done, tries := 0, 0; done < 10 && tries < 10_000; tries++ {
				r, err := k.LoadSession(k.ctx, "n", at(0))
				if err != nil {
					k.Errorf("LoadSession: %v", err)
					return
				}
				n, _ := strconv.Atoi(string(r.Data))
				r.Data = []byte(strconv.Itoa(n + 1))
				switch _, err := k.SaveSession(k.ctx, r, at(0)); {
				case err == nil:
					done++
				case !errors.Is(err, uia.ErrConflict):
					k.Errorf("SaveSession: %v", err)
					return
				}
			}
		})
		k.same("count", string(k.load("n", 0).Data), "80")
		k.same("revision", k.load("n", 0).Revision, 81)
	},
}, {
	name: "race-to-sweep",
	says: "SweepHolds deletes at most limit held uses whose Until lies before the given time and returns how many.",
	test: func(k *kit) {
		k.create(uia.Token{Value: "t"}).ok()
		for range 12 { // who counts first and sweeps later is wrong only where little is left
			for i := range 4 {
				k.held("t", fmt.Sprint("s", i))
				k.save(uia.Record{Key: fmt.Sprint("k", i), State: uia.Open, Expires: at(minute)}, 0)
			}
			var holds, sessions atomic.Int64
			k.race(4, func(int) {
				for range 2 {
					n, err := k.SweepHolds(k.ctx, at(hour), 3)
					m, err2 := k.SweepSessions(k.ctx, at(hour), 3)
					if err := errors.Join(err, err2); err != nil {
						k.Errorf("sweeping: %v", err)
					}
					holds.Add(int64(n))
					sessions.Add(int64(m))
				}
			})
			k.same("holds swept by all", holds.Load(), 4)
			k.same("records swept by all", sessions.Load(), 4)
			k.rows("t")
		}
	},
}}

// race runs f in n goroutines that start together.
func (k *kit) race(n int, f func(i int)) {
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-start
			f(i)
		})
	}
	close(start)
	wg.Wait()
}

// once asserts that of n concurrent calls one succeeds and the others get lost.
func (k *kit) once(n int, lost error, f func(i int) error) {
	k.Helper()
	var won atomic.Int64
	k.race(n, func(i int) {
		switch err := f(i); {
		case err == nil:
			won.Add(1)
		case !errors.Is(err, lost):
			k.Errorf("a call that lost the race: got error %v, want %v", err, lost)
		}
	})
	if won.Load() != 1 {
		k.Fatalf("%d of %d concurrent calls succeeded, want one", won.Load(), n)
	}
}

// storm is a rush of registrations on one token. Each session has several owners
// who compete as the processes of a homeserver do, and each owner its own clock.
type storm struct {
	sessions, owners int
	limit            int64
	skew             time.Duration
}

func (k *kit) storm(o storm) {
	k.Helper()
	k.limited("t", o.limit)
	var accounts sync.Map // session to user
	runs := make([]atomic.Int64, o.sessions)
	stop := make(chan struct{})
	var admin sync.WaitGroup
	admin.Go(func() { k.administer("t", stop) }) // is no reason for a registration to fail
	k.race(o.sessions*o.owners, func(i int) {
		r := rand.New(rand.NewPCG(uint64(i), 1))
		now := epoch
		if o.skew > 0 {
			now = now.Add(rand.N(2*o.skew) - o.skew)
		}
		n := i % o.sessions
		own := owner{k: k, rnd: r, now: now, limit: o.limit, alone: o.owners == 1, session: fmt.Sprint("session", n), runs: &runs[n]}
		user, err := own.register(k.ctx)
		if err != nil {
			k.Errorf("session %d: %v", n, err)
		}
		if user == "" {
			return
		}
		if other, twice := accounts.LoadOrStore(own.session, user); twice {
			k.Errorf("session %d made two accounts, %s and %s", n, other, user)
		}
	})
	close(stop)
	admin.Wait()
	k.calm(o, &accounts)
}

// administer changes a token and lists its uses until stop is closed.
func (k *kit) administer(token string, stop <-chan struct{}) {
	for i := 0; ; i++ {
		select {
		case <-stop:
			return
		default:
		}
		if _, err := k.UpdateToken(k.ctx, token, uia.TokenPatch{Label: new(fmt.Sprint(i))}, epoch); err != nil {
			k.Errorf("UpdateToken: %v", err)
			return
		}
		if _, err := k.ListUses(k.ctx, uia.UseQuery{Token: token}); err != nil {
			k.Errorf("ListUses: %v", err)
			return
		}
		runtime.Gosched()
	}
}

// calm checks what a storm has left: accounts (session to user), and their uses.
func (k *kit) calm(o storm, accounts *sync.Map) {
	k.Helper()
	made := 0
	for range accounts.Range {
		made++
	}
	want := min(int(o.limit), o.sessions)
	t := k.token("t", 0)
	if made != want || t.Completed != int64(want) || t.Pending != 0 {
		k.Fatalf("%d sessions with a token of %d uses made %d accounts; the token says %d completed, %d pending",
			o.sessions, o.limit, made, t.Completed, t.Pending)
	}
	for _, u := range k.uses("t") {
		if user, _ := accounts.Load(u.Session); u.State != uia.Spent || u.UserID != user {
			k.Fatalf("the use of session %s is %s, want it spent by %v", u.Session, show(u), user)
		}
	}
}

// owner is one of those who run a session's registration.
type owner struct {
	k       *kit
	rnd     *rand.Rand
	now     time.Time
	limit   int64
	alone   bool // the session's only owner
	session string
	runs    *atomic.Int64
}

// register goes on until the session has its account (it returns the user if it was this
// owner that made it) or the token has no use left for it. Now and then, at random, it
// gives up and starts anew.
func (o *owner) register(ctx context.Context) (user string, err error) {
	for range 2000 {
		switch err := o.reserve(ctx); {
		case errors.Is(err, uia.ErrExhausted), errors.Is(err, uia.ErrSpent) && !o.alone:
			return "", nil
		case err != nil:
			return "", fmt.Errorf("Reserve: %w", err)
		}
		runtime.Gosched()
		if user, err := o.spend(ctx); user != "" || err != nil {
			return user, err
		}
	}
	return "", errors.New("no end after 2000 tries")
}

// reserve holds a use, and checks that no more uses are held than the token allows.
func (o *owner) reserve(ctx context.Context) error {
	if err := o.k.Reserve(ctx, uia.Hold{Token: "t", Session: o.session, Until: o.now.Add(10 * minute)}, o.now); err != nil {
		return err
	}
	t, err := o.k.Token(ctx, "t", o.now)
	if err != nil {
		return err
	}
	if t.Pending+t.Completed > o.limit {
		return fmt.Errorf("the token has %d uses pending and %d completed of %d", t.Pending, t.Completed, o.limit)
	}
	return nil
}

// spend goes on with the use that is held, and returns the user if it has spent it. No
// user means that it has given the use up, or that another owner was faster.
func (o *owner) spend(ctx context.Context) (user string, err error) {
	claim := uia.Claim{Token: "t", Session: o.session, Run: o.runs.Load()}
	if o.rnd.IntN(4) == 0 {
		if err := o.k.Release(ctx, claim); !o.expected(err) {
			return "", fmt.Errorf("Release: %w", err)
		}
		return "", nil
	}
	claim.Run = o.runs.Add(1)
	if err := o.k.Pin(ctx, claim, o.now); err != nil {
		if !o.expected(err) {
			return "", fmt.Errorf("Pin: %w", err)
		}
		return "", nil
	}
	for range o.rnd.IntN(20) { // the operation takes its time
		runtime.Gosched()
	}
	what := o.rnd.IntN(4)
	switch user := fmt.Sprintf("@%s-%d", o.session, claim.Run); what {
	case 0:
		err = o.k.Unpin(ctx, claim, o.now.Add(time.Duration(o.rnd.IntN(3))*minute), o.now)
	case 1:
		err = o.k.Release(ctx, claim)
	default:
		if err = o.k.Commit(ctx, claim, user, o.now); err == nil {
			return user, nil
		}
	}
	if o.alone && err != nil || !o.expected(err) {
		return "", fmt.Errorf("a pinned use, step %d: %w", what, err)
	}
	return "", nil
}

// expected reports whether a claim may fail like this: another session displaced
// the hold, or another owner of this session was faster.
func (o *owner) expected(err error) bool {
	return err == nil || errors.Is(err, uia.ErrNotHeld) || !o.alone && errors.Is(err, uia.ErrSpent)
}

// gosched lets other goroutines run between a check and the write that depends on it.
func gosched() {
	for range 10 {
		runtime.Gosched()
	}
}
