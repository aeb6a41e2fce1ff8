package uiatest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// runner runs cases against one homeserver.
type runner struct {
	server  Server
	sender  *sender
	clients *origins
	from    *origin // for what is no case
	guesser *origin // for the cases about limits
	shares  *shares
	waiting func() (resume func()) // called when a case has to wait; may be nil
	mint    *mint
	suite   *suite
	flow    string // "T", "TD" or ""

	mu     sync.Mutex
	fail   error               // why the run cannot go on
	probes map[string]*probing // by feature
}

// probing is a probe that is made once, when the first case needs it.
type probing struct {
	once    sync.Once
	missing string // why the feature is not there; "" if it is
}

// offers returns why the homeserver does not offer a feature that there is a probe
// for; "" if it does.
func (r *runner) offers(ctx context.Context, feature string) string {
	what, ok := r.suite.probes[feature]
	if !ok {
		return ""
	}
	r.mu.Lock()
	p := r.probes[feature]
	if p == nil {
		p = new(probing)
		r.probes[feature] = p
	}
	r.mu.Unlock()
	p.once.Do(func() {
		c := Case{tokens: what.Tokens, steps: what.Steps}
		for _, t := range c.tokens {
			if p.missing = r.cannotMake(t); p.missing != "" {
				return
			}
		}
		if err := r.play(ctx, &c, newScope(r.from)); err != nil {
			p.missing = fmt.Sprintf("the homeserver does not offer %s (%s): %v", feature, what.Says, err)
		}
	})
	return p.missing
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
	r := &runner{server: s, suite: suite, probes: make(map[string]*probing)}
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
		return nil, fmt.Errorf("uiatest: %w", err)
	}
	r.flow = flowOf(r.server.Flows)
	return r, nil
}

// registerPath is where accounts are made.
const registerPath = "/_matrix/client/v3/register"

// look looks at whether there is a homeserver that can be measured, and at its
// flows.
func (r *runner) look(ctx context.Context) error {
	m := &message{method: http.MethodPost, path: registerPath, body: []byte("{}"),
		header: http.Header{"Content-Type": {"application/json"}}}
	a, err := r.sender.send(ctx, r.from, m, patient)
	if err != nil {
		return fmt.Errorf("the homeserver cannot be measured: %w", err)
	}
	object, ok := a.json.(map[string]any)
	if !ok {
		return fmt.Errorf("this is not a homeserver: POST %s is answered with %d, and not with a JSON object but with %s %q",
			registerPath, a.status, a.header.Get("Content-Type"), shorten(string(a.body), 80))
	}
	switch {
	case a.status == http.StatusNotFound || a.status >= 500:
		return fmt.Errorf("the homeserver cannot be measured: POST %s is answered with %d %s", registerPath, a.status, shorten(string(a.body), 200))
	case a.status == http.StatusForbidden:
		r.server.Closed = true
	}
	if r.server.Flows == nil {
		var challenge struct{ Flows []struct{ Stages []string } }
		if json.Unmarshal(encode(object), &challenge) == nil {
			for _, flow := range challenge.Flows {
				r.server.Flows = append(r.server.Flows, flow.Stages)
			}
		}
	}
	return nil
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
