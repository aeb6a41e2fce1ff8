package uiatest

import (
	"context"
	"slices"
	"sync"
	"time"
)

// accountDecl is an account that a case wants to borrow.
type accountDecl struct {
	Kind   string `json:"kind"`   // absent: plain
	Recent bool   `json:"recent"` // its registration has ended in the last minutes
	Spoils bool   `json:"spoils"` // nobody else can use it afterwards
}

// accountKind says how the accounts of a kind are made.
type accountKind struct {
	Says  string         `json:"says"`
	JSON  map[string]any `json:"json"`  // what the registration has beside username and password
	Steps []step         `json:"steps"` // what is done with a new account
}

const plainKind = "plain"

func (d accountDecl) kind() string {
	if d.Kind == "" {
		return plainKind
	}
	return d.Kind
}

// maxLent is how many accounts of a kind are lent at the same time: no case wants more.
const maxLent = 2

// recently is how long ago the registration of an account may have ended for the cases
// that go back to its session. Homeservers forget finished sessions after some minutes.
const recently = 2 * time.Minute

// account is an account that one case after the other borrows. Homeservers limit how many
// accounts an address makes, so cases that are not about making one share some.
type account struct {
	kind   string
	values map[string]any // what is known of it: user, user_id, password, session, last, ...
	made   time.Time
	answer *answer     // to its registration
	log    *transcript // what was sent to make it
	at     int         // where in log the registration is
	used   bool        // a case has borrowed it before
}

// accounts are the accounts that are lent to cases. A case has the accounts that it
// borrows for itself alone, and only a case that has not failed gives them back.
type accounts struct {
	mu      sync.Mutex
	free    []*account // the oldest first
	lent    map[string]int
	changed chan struct{} // closed and replaced when an account comes back or is lost
}

func newAccounts() *accounts {
	return &accounts{lent: make(map[string]int), changed: make(chan struct{})}
}

// take takes the accounts of the declarations that are free; nil stands for one that has
// to be made. It waits while too many are lent.
func (p *accounts) take(ctx context.Context, want []accountDecl, waiting func() (resume func())) ([]*account, error) {
	resume := func() {}
	defer func() { resume() }()
	for waited := false; ; waited = true {
		p.mu.Lock()
		if p.room(want) {
			taken := make([]*account, len(want))
			for i, d := range want {
				taken[i] = p.pick(d)
				p.lent[d.kind()]++
			}
			p.mu.Unlock()
			return taken, nil
		}
		changed := p.changed
		p.mu.Unlock()
		if waiting != nil && !waited {
			resume = waiting()
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// room reports whether the accounts may be lent now. p.mu is held.
func (p *accounts) room(want []accountDecl) bool {
	count := make(map[string]int)
	for _, d := range want {
		count[d.kind()]++
	}
	for kind, n := range count {
		if p.lent[kind] > 0 && p.lent[kind]+n > maxLent {
			return false
		}
	}
	return true
}

// pick takes an account that is free; nil if there is none. p.mu is held.
func (p *accounts) pick(d accountDecl) *account {
	for i, a := range p.free {
		if a.kind == d.kind() && (!d.Recent || time.Since(a.made) < recently) {
			p.free = slices.Delete(p.free, i, i+1)
			return a
		}
	}
	return nil
}

// give takes an account back, or takes note that it is lost if a is nil.
func (p *accounts) give(kind string, a *account) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lent[kind]--
	if a != nil {
		at, _ := slices.BinarySearchFunc(p.free, a, func(x, y *account) int { return x.made.Compare(y.made) })
		p.free = slices.Insert(p.free, at, a)
	}
	close(p.changed)
	p.changed = make(chan struct{})
}

// state says whether a case that borrows these would have to wait for another case, and
// whether an account would have to be made for it.
func (p *accounts) state(want []accountDecl) (wait, make bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	taken := []*account{}
	for _, d := range want {
		if a := p.pick(d); a != nil {
			taken = append(taken, a)
		} else {
			make = true
		}
	}
	p.free = append(p.free, taken...)
	slices.SortFunc(p.free, func(x, y *account) int { return x.made.Compare(y.made) })
	return !p.room(want), make
}
