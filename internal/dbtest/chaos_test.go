package dbtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/matrix-org/gomatrixserverlib/spec"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
)

// TestChaos has clients compete for tokens of few uses on two engines with clocks
// that are set at random, each of which recovers on its own, while calls of the
// store fail, lose their answer or outlast a lease, operations panic, hang and
// refuse, clients hang up, and tokens are revoked and closed. Afterwards no token has
// made more accounts than it allows, each account has its spent use and each spent
// use its account, and nobody was told two things. At full size it takes an hour:
//
//	UIA_FULL=1 go test -race -run TestChaos -v -timeout 90m ./internal/dbtest
func TestChaos(t *testing.T) {
	for _, kind := range chaosKinds() {
		t.Run(kind.name, func(t *testing.T) {
			if !full {
				t.Parallel() // most of it is waiting
			}
			w := newChaosWorld(t, kind)
			c := &chaos{chaosWorld: w, allowed: map[string]int64{}, told: map[string]map[string]bool{}}
			for range c.tokens {
				c.replaceToken(t)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(size(400, 40))*time.Second)
			defer cancel()
			c.run(ctx, t)
			c.quiet(t)
			c.check(t)
		})
	}
}

type chaos struct {
	*chaosWorld
	mu       sync.Mutex
	tokens   [40]string                 // those that clients use now
	allowed  map[string]int64           // all there ever were, and their uses
	told     map[string]map[string]bool // session key to responses
	sessions []string                   // IDs

	runs, panics, recovered atomic.Int64
}

// run lets everybody go about until ctx is done.
func (c *chaos) run(ctx context.Context, t *testing.T) {
	var wg sync.WaitGroup
	for client := range 16 {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				if rand.IntN(6) == 0 {
					c.replaceToken(t)
				}
				c.register(ctx, fmt.Sprint("u", client, "-", i))
			}
		})
	}
	for i, e := range c.engines {
		wg.Go(func() {
			for !wait2(ctx.Done(), rand.N(120*time.Millisecond)) {
				c.skew[i].Store(int64(rand.N(2*chaosSkew) - chaosSkew))
				report, _ := e.Recover(ctx)
				c.recovered.Add(int64(report.Committed + report.Released))
			}
		})
	}
	wg.Go(func() {
		for !wait2(ctx.Done(), rand.N(60*time.Millisecond)) {
			c.administer(ctx)
		}
	})
	wg.Wait()
}

func (c *chaos) anyToken() (string, int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	token := c.tokens[rand.IntN(len(c.tokens))]
	return token, c.allowed[token]
}

// replaceToken puts a new token, of one to three uses, in place of another.
func (c *chaos) replaceToken(t *testing.T) {
	token, uses := uia.GenerateToken(12), rand.Int64N(3)+1
	assert.NoError(t, c.inner.CreateTokens(t.Context(), uia.Token{Value: token, UsesAllowed: &uses}))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.allowed[token] = uses
	i := len(c.allowed) - 1
	if i >= len(c.tokens) {
		i = rand.IntN(len(c.tokens))
	}
	c.tokens[i] = token
}

// administer revokes a token or closes it, or takes that back.
func (c *chaos) administer(ctx context.Context) {
	token, uses := c.anyToken()
	patches := []uia.TokenPatch{
		{Revoked: new(true)}, {Revoked: new(false)}, {UsesAllowed: new(new(int64(0)))}, {UsesAllowed: new(&uses)},
	}
	if i := rand.IntN(2 * len(patches)); i < len(patches) {
		_, _ = c.inner.UpdateToken(ctx, token, patches[i], time.Now())
	}
}

// register is what one client does: it passes the token's stage, and then several of
// its final requests meet at different engines.
func (c *chaos) register(ctx context.Context, name string) {
	token, _ := c.anyToken()
	var session string
	for try := 0; try < 3 && session == ""; try++ {
		hurry, cancel := context.WithTimeout(ctx, rand.N(2*time.Second))
		_, err := c.engine().Authenticate(hurry, chaosRequest(map[string]string{"type": uia.TokenType, "token": token}, name))
		cancel()
		if challenge, ok := errors.AsType[*uia.Challenge](err); ok && len(challenge.Completed) == 1 {
			session = challenge.Session
		}
	}
	if session == "" || rand.IntN(5) == 0 {
		return
	}
	c.mu.Lock()
	c.sessions = append(c.sessions, session)
	c.mu.Unlock()
	var finals sync.WaitGroup
	for range 1 + rand.IntN(4) {
		finals.Go(func() {
			for try := 0; try < 4 && !wait2(ctx.Done(), rand.N(200*time.Millisecond)); try++ {
				hurry, cancel := context.WithTimeout(ctx, 50*time.Millisecond+rand.N(3*time.Second))
				err := c.finish(hurry, session, name)
				cancel()
				if err == nil {
					return
				}
			}
		})
	}
	finals.Wait()
}

func chaosRequest(auth map[string]string, name string) uia.Request {
	text, _ := json.Marshal(map[string]any{"username": name, "auth": auth})
	return uia.Request{Operation: "register", Body: text}
}

// finish is one final request.
func (c *chaos) finish(ctx context.Context, session, name string) error {
	grant, err := c.engine().Authenticate(ctx, chaosRequest(map[string]string{"type": "m.login.dummy", "session": session}, name))
	if err != nil {
		return err
	}
	response, err := grant.Finish(ctx, c.operation(name))
	if err != nil {
		return err
	}
	key := grant.Session().Key
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.told[key] == nil {
		c.told[key] = map[string]bool{}
	}
	c.told[key][string(response)] = true
	return nil
}

// operation makes the account, if nothing goes wrong before or after.
func (c *chaos) operation(name string) uia.Operate {
	trouble := func() error {
		switch r := rand.IntN(100); {
		case c.faults.off.Load():
		case r < 3:
			c.panics.Add(1)
			panic("chaos")
		case r < 6:
			return errChaos
		case r < 9:
			stall() // whatever its context says
		}
		return nil
	}
	return func(ctx context.Context, s *uia.Session) (uia.Effect, error) {
		c.runs.Add(1)
		token, _ := s.Token()
		if !c.faults.off.Load() && rand.IntN(30) == 0 {
			return uia.Effect{}, uia.NewError(http.StatusBadRequest, spec.MatrixError{ErrCode: spec.ErrorUserInUse, Err: "taken"})
		}
		if err := trouble(); err != nil {
			return uia.Effect{}, err
		}
		user, err := c.accounts.create(ctx, s.Key, "@"+name+":test", token.Token)
		if err != nil {
			return uia.Effect{}, err
		}
		if err := trouble(); err != nil {
			return uia.Effect{}, err
		}
		return uia.Effect{UserID: user, Body: user}, nil
	}
}

// quiet ends the faults, lets all leases end, and recovers.
func (c *chaos) quiet(t *testing.T) {
	c.faults.off.Store(true)
	if a, ok := c.accounts.(*otherPlace); ok {
		a.faults.off.Store(true)
	}
	for i := range c.skew {
		c.skew[i].Store(int64(time.Minute))
	}
	for range 3 { // each decides a thousand
		for _, e := range c.engines {
			_, err := e.Recover(t.Context())
			require.NoError(t, err)
		}
		for i := range c.skew {
			c.skew[i].Add(int64(time.Minute))
		}
	}
	// Every session can end: nobody is left with an error of the server.
	for i, session := range c.sessions[max(0, len(c.sessions)-200):] {
		err := c.finish(t.Context(), session, fmt.Sprint("late-", i))
		if refusal, ok := errors.AsType[*uia.Error](err); ok {
			assert.Less(t, refusal.Status, 500, "a final request when all is quiet: %v", err)
		}
	}
}

// check compares accounts, uses and what clients were told.
func (c *chaos) check(t *testing.T) {
	ctx := t.Context()
	accounts := c.accounts.all(t)
	byKey, byToken := map[string]string{}, map[string]int64{}
	for _, a := range accounts {
		if other := byKey[a.key]; other != "" {
			t.Errorf("session %s has two accounts, %s and %s", a.key, other, a.user)
		}
		byKey[a.key] = a.user
		byToken[a.token]++
	}
	var spent, told int
	for token, allowed := range c.allowed {
		assert.LessOrEqual(t, byToken[token], allowed, "accounts of a token")
		record, err := c.inner.Token(ctx, token, time.Now().Add(time.Hour))
		require.NoError(t, err)
		assert.Equal(t, byToken[token], record.Completed, "spent uses of a token and its accounts")
		assert.Zero(t, record.Pending, "uses in doubt after recovery")
		page, err := c.inner.ListUses(ctx, uia.UseQuery{Token: token})
		require.NoError(t, err)
		for _, u := range page.Uses {
			if u.State == uia.Spent {
				assert.Equal(t, byKey[u.Session], u.UserID, "whom a use is booked to")
				spent++
			}
		}
	}
	assert.Equal(t, len(accounts), spent)
	for key, responses := range c.told {
		assert.Len(t, responses, 1, "a session was told more than one thing")
		for r := range responses {
			assert.Equal(t, fmt.Sprintf("%q", byKey[key]), r, "what a session was told, and its account")
			told++
		}
	}
	// The test has tested something.
	assert.Greater(t, len(accounts), size(500, 50))
	assert.Positive(t, c.faults.made.Load())
	assert.Positive(t, c.recovered.Load())
	t.Logf("%d sessions, %d runs, %d panics, %d accounts, %d spent, %d told, %d recovered, %d tokens, %d calls of the store, %d faults",
		len(c.sessions), c.runs.Load(), c.panics.Load(), len(accounts), spent, told, c.recovered.Load(), len(c.allowed),
		c.faults.calls.Load(), c.faults.made.Load())
}
