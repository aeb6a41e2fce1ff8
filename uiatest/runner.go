package uiatest

import (
	"context"
	"net/http"
	"sync"
	"time"
)

// runner runs cases against one homeserver.
type runner struct {
	server   Server
	sender   *sender
	clients  *origins
	from     *origin // for what is no case
	guesser  *origin // for the cases about limits
	shares   *shares
	waiting  func() (resume func()) // called when a case has to wait; may be nil
	mint     *mint
	accounts *accounts
	suite    *suite
	flow     string // "T", "TD", "D" or ""

	mu    sync.Mutex
	fail  error              // why the run cannot go on
	asked map[string]*asking // by feature
}

func newRunner(ctx context.Context, s Server, opts *Options) (*runner, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	suite, err := load()
	if err != nil {
		return nil, err
	}
	rate := opts.Rate
	if rate <= 0 && s.URL != "" {
		rate = 20
	}
	r := &runner{server: s, suite: suite, asked: make(map[string]*asking), accounts: newAccounts()}
	r.sender = &sender{base: s.base(), budget: newBudget(MaxGuesses)}
	if rate > 0 {
		r.sender.every = time.Duration(float64(time.Second) / rate)
	}
	r.clients = newOrigins(ctx, &s)
	r.from, r.guesser = r.clients.next(), r.clients.next()
	r.shares = newShares(opts.Guesses)
	r.mint = &mint{server: &r.server, sender: r.sender, from: r.from}
	if err := r.look(ctx); err != nil {
		r.from.close()
		return nil, err
	}
	return r, nil
}

// client returns a new client, which makes room for other cases while it has to wait.
func (r *runner) client() *origin {
	from := r.clients.next()
	from.waiting = r.waiting
	return from
}

// alive reports whether the homeserver answers anything at all.
func (r *runner) alive(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	_, err := r.sender.send(ctx, r.from, &message{method: http.MethodGet, path: "/_matrix/client/versions"}, once)
	return err == nil
}

func (r *runner) giveUp(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fail == nil {
		r.fail = err
	}
}

func (r *runner) failure() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.fail
}

// close leaves the homeserver as tidy as it can be left.
func (r *runner) close() {
	if r.failure() == nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		r.mint.clean(ctx)
	}
	r.from.close()
	r.guesser.close()
}
