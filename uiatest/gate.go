package uiatest

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"time"
)

// gates hold back requests to endpoints where the homeserver has answered with status
// 429. Requests to other endpoints go through.
type gates struct {
	mu     sync.Mutex
	shared bool // the homeserver does not tell clients by their addresses
	all    map[gateKey]*gate
}

// gateKey says whose requests a gate holds back, and to what. The address is empty if the
// homeserver does not tell clients by their addresses.
type gateKey struct{ address, endpoint string }

// gate stands before an endpoint. After an answer with status 429 it is shut for as
// long as that asks for, and then lets one request through at a time until another
// answer has come: when a limit lets one account be made every few seconds, waiting
// requests that go out together would all be refused but one.
type gate struct {
	mu     sync.Mutex
	until  time.Time
	narrow bool
	queue  int           // requests that wait before it
	turn   chan struct{} // holds one element while a narrow gate lets a request through
}

// gate returns the gate before an endpoint.
func (g *gates) gate(from *origin, endpoint string) *gate {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.locked(from, endpoint)
}

func (g *gates) locked(from *origin, endpoint string) *gate {
	key := gateKey{from.address, endpoint}
	if g.shared {
		key.address = ""
	}
	if g.all == nil {
		g.all = make(map[gateKey]*gate)
	}
	if g.all[key] == nil {
		g.all[key] = &gate{turn: make(chan struct{}, 1)}
	}
	return g.all[key]
}

// note takes note of an answer. If the first request of a client to an endpoint is
// limited, other clients have used the limit up. So the homeserver does not tell clients
// by their addresses, and from then on all clients wait together.
func (g *gates) note(from *origin, endpoint string, a *answer) {
	limited := a.status == http.StatusTooManyRequests
	g.mu.Lock()
	if limited && from.address != "" && !from.known[endpoint] {
		g.shared = true
	}
	if from.known == nil {
		from.known = make(map[string]bool)
	}
	from.known[endpoint] = true
	gate := g.locked(from, endpoint)
	g.mu.Unlock()

	gate.mu.Lock()
	defer gate.mu.Unlock()
	gate.narrow = limited
	if at := time.Now().Add(a.retryAfter()); limited && at.After(gate.until) {
		gate.until = at
	}
}

// shut reports whether a new client would have to wait before one of the endpoints: until
// its gate opens, or behind requests that wait there already. If new cases queued up with
// those that have begun, a case would be held up between two of its requests for so long
// that the homeserver forgets the first.
func (g *gates) shut(endpoints []string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, endpoint := range endpoints {
		if gate := g.all[gateKey{"", endpoint}]; gate != nil && gate.shut() {
			return true
		}
	}
	return false
}

// shut reports whether a request would have to wait.
func (g *gate) shut() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.queue > 0 || time.Until(g.until) > 0
}

// wait is how long the gate stays shut.
func (g *gate) wait() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	return time.Until(g.until)
}

// enter waits until the gate lets a request through. If it has to wait and waiting is
// not nil, it calls waiting before, and calls resume when the wait has ended. The caller
// calls leave when the request has been answered.
func (g *gate) enter(ctx context.Context, waiting func() (resume func())) (leave func(), err error) {
	end := func() {}
	begin := sync.OnceFunc(func() {
		g.line(1)
		resume := func() {}
		if waiting != nil {
			resume = waiting()
		}
		end = func() { g.line(-1); resume() }
	})
	defer func() { end() }()
	leave = func() {}
	g.mu.Lock()
	narrow := g.narrow
	g.mu.Unlock()
	if narrow {
		begin()
		select {
		case g.turn <- struct{}{}:
			leave = func() { <-g.turn }
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	for {
		wait := g.wait()
		if wait <= 0 {
			return leave, ctx.Err()
		}
		begin()
		if err := sleep(ctx, wait); err != nil {
			leave()
			return nil, err
		}
	}
}

// line counts a request that begins or ends to wait.
func (g *gate) line(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.queue += n
}

// endpoint returns which endpoint a path leads to, whatever the version that it is
// asked under: homeservers count the versions of one together.
func endpoint(path string) string {
	path, _, _ = strings.Cut(path, "?")
	if strings.HasSuffix(path, "/validity") {
		return "validity"
	}
	parts := strings.Split(strings.TrimPrefix(path, "/"), "/")
	for i, part := range parts {
		if part == "client" || part == "admin" {
			rest := parts[min(i+2, len(parts)):] // without the version
			if len(rest) > 1 && rest[0] == "register" {
				return "register/" + rest[1]
			}
			if len(rest) > 0 {
				return rest[0]
			}
		}
	}
	return path
}
