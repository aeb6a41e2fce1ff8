// Package recent remembers parameters of sessions that have no record yet, in memory.
package recent

import (
	"sync"
	"time"
)

// most bounds how many sessions' parameters a process remembers.
const most = 1024

// Params remembers the parameters of requests whose stage failed in sessions that have
// no record yet: the client may leave them out of its next request. Such a request has
// proved nothing and costs no database write, so they are kept in the memory of the
// process, at most 1 KiB for each of the last 1024 sessions. A client whose next request
// meets another process, or comes after many others, has to send them again.
type Params struct {
	mu     sync.Mutex
	params map[string]entry // by session key
	order  [most]string     // a ring: the next place is the oldest one
	next   int
}

type entry struct {
	params  []byte
	expires time.Time
	place   int
}

// Keep remembers the parameters of a session until it expires.
func (r *Params) Keep(key string, params []byte, expires time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.params == nil {
		r.params = make(map[string]entry)
	}
	known, ok := r.params[key]
	if !ok {
		known.place = r.next
		delete(r.params, r.order[r.next])
		r.order[r.next] = key
		r.next = (r.next + 1) % most
	}
	r.params[key] = entry{params, expires, known.place}
}

// Find returns what is remembered of a session, nil if nothing is.
func (r *Params) Find(key string, now time.Time) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p, ok := r.params[key]; ok && now.Before(p.expires) {
		return p.params
	}
	return nil
}

// Forget drops what is remembered of a session whose record now has its parameters.
func (r *Params) Forget(key string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p, ok := r.params[key]; ok {
		delete(r.params, key)
		r.order[p.place] = ""
	}
}
