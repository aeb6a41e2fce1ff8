package gateway

import (
	"sync"
	"time"
)

const (
	// freeFor is how long an upstream's "available" counts. Some upstreams take a
	// second for each answer, and answer no more than two at once.
	freeFor = 30 * time.Second
	// maxNames bounds how many are remembered.
	maxNames = 10_000
)

// recentNames remembers which names were free a moment ago. Whether they still are is
// decided when the account is made. The zero value is ready.
type recentNames struct {
	mu    sync.Mutex
	until map[string]time.Time
}

// ask returns nil if the name was free a moment ago, and otherwise the answer of the
// upstream.
func (n *recentNames) ask(name string, upstream func() error) error {
	n.mu.Lock()
	until, known := n.until[name]
	n.mu.Unlock()
	now := time.Now()
	if known && now.Before(until) {
		return nil
	}
	if err := upstream(); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.until == nil || len(n.until) >= maxNames {
		n.until = make(map[string]time.Time)
	}
	n.until[name] = now.Add(freeFor)
	return nil
}

// forget makes the next ask look again.
func (n *recentNames) forget(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.until, name)
}
