package memstore

import (
	"cmp"
	"container/heap"
	"slices"
	"strings"

	"github.com/matrix-uia/uia"
)

// useKey names a use. The token's value stands in it, not the token: a claim
// finds the use of a deleted token by it.
type useKey struct{ token, session string }

type use struct {
	uia.Use
	of    *token
	index int // in Store.holds
}

func (u *use) before(v *use) bool { return u.Until.Before(v.Until) }
func (u *use) place() *int        { return &u.index }

// add adds a use.
func (s *Store) add(u *use) {
	s.uses[useKey{u.Token, u.Session}] = u
	s.latest[u.Session] = u
	insert(&u.of.all, u, byMade)
	s.enter(u)
}

// drop deletes a use.
func (s *Store) drop(u *use) {
	s.leave(u)
	remove(&u.of.all, u, byMade)
	delete(s.uses, useKey{u.Token, u.Session})
	s.settle(u)
	if u.of.deleted && len(u.of.all) == 0 {
		left := slices.DeleteFunc(s.deleted[u.Token], func(t *token) bool { return t == u.of })
		if s.deleted[u.Token] = left; len(left) == 0 {
			delete(s.deleted, u.Token)
		}
	}
}

// settle forgets that the session is about to use this one.
func (s *Store) settle(u *use) {
	if s.latest[u.Session] == u {
		delete(s.latest, u.Session)
	}
}

// change changes a use in place. The indexes depend on its state and times, so
// nothing else may write to them.
func (s *Store) change(u *use, f func(u *uia.Use)) {
	s.leave(u)
	f(&u.Use)
	s.enter(u)
}

// enter adds the use to the indexes of its state.
func (s *Store) enter(u *use) {
	switch u.State {
	case uia.Held:
		insert(&u.of.held, u, byUntil)
		heap.Push(&s.holds, u)
	case uia.Pinned:
		u.of.pinned++
		insert(&s.pinned, u, byChanged)
	case uia.Spent:
		u.of.spent++
		s.settle(u)
		s.book(u)
		if u.Changed.After(u.of.lastUsed) {
			u.of.lastUsed = u.Changed
		}
	}
}

// leave removes the use from the indexes of its state. A spent one never leaves.
func (s *Store) leave(u *use) {
	switch u.State {
	case uia.Held:
		remove(&u.of.held, u, byUntil)
		heap.Remove(&s.holds, u.index)
	case uia.Pinned:
		u.of.pinned--
		remove(&s.pinned, u, byChanged)
	}
}

func byMade(a, b *use) int {
	return cmp.Or(a.Made.Compare(b.Made), strings.Compare(a.Session, b.Session))
}

func byUntil(a, b *use) int {
	return cmp.Or(a.Until.Compare(b.Until), strings.Compare(a.Session, b.Session))
}

func byChanged(a, b *use) int {
	return cmp.Or(a.Changed.Compare(b.Changed), strings.Compare(a.Token, b.Token), strings.Compare(a.Session, b.Session))
}

// insert adds u to a sorted slice. Nearly always that is at its end; else moving
// a hundred thousand pointers takes some ten microseconds.
func insert(s *[]*use, u *use, by func(a, b *use) int) {
	i, _ := slices.BinarySearchFunc(*s, u, by)
	*s = slices.Insert(*s, i, u)
}

// remove removes u from a sorted slice, if it is there.
func remove(s *[]*use, u *use, by func(a, b *use) int) {
	if i, ok := slices.BinarySearchFunc(*s, u, by); ok {
		*s = slices.Delete(*s, i, i+1)
	}
}

// queue is a priority queue for package heap. Its items know their place in it, so that
// an item can be removed from the middle.
type queue[T queued[T]] []T

type queued[T any] interface {
	before(T) bool
	place() *int
}

var (
	_ queued[*use]    = (*use)(nil)
	_ queued[*record] = (*record)(nil)
)

// top returns the first item without removing it.
func (q queue[T]) top() (first T, ok bool) {
	if len(q) == 0 {
		return first, false
	}
	return q[0], true
}

func (q queue[T]) Len() int           { return len(q) }
func (q queue[T]) Less(i, j int) bool { return q[i].before(q[j]) }
func (q queue[T]) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	*q[i].place(), *q[j].place() = i, j
}

func (q *queue[T]) Push(x any) {
	item := x.(T)
	*item.place() = len(*q)
	*q = append(*q, item)
}

func (q *queue[T]) Pop() any {
	last := len(*q) - 1
	item := (*q)[last]
	var none T
	(*q)[last] = none // otherwise the array would keep the item alive
	*q = (*q)[:last]
	return item
}
