package limit

import (
	"container/list"
	"context"
	"encoding/binary"
	"hash/maphash"
	"math"
	"time"
)

// table keeps the budgets of all clients of one kind. The Limiter's lock guards it.
type table struct {
	refill, budget time.Duration // budget is what a client may owe: burst times refill
	max            int           // of clients

	clients map[key]*bucket
	scanned time.Duration // when clients was last searched for forgiven ones
	// overflow has the buckets of clients for which there is no room in clients. Each
	// shares a bucket with a few others, and strangers cannot know with whom: to spend
	// all buckets, an attacker needs as many addresses.
	overflow []bucket
	seed     maphash.Seed
}

func newTable(budget, refill time.Duration, clients int) *table {
	return &table{
		refill: refill, budget: budget, max: clients,
		clients: make(map[key]*bucket), scanned: math.MinInt64 / 2, seed: maphash.MakeSeed(),
	}
}

// bucket returns the client's budget, or the one that it shares if there is no room
// for another client.
func (t *table) bucket(k key, now time.Duration) *bucket {
	if b := t.clients[k]; b != nil {
		return b
	}
	// A scan takes about a millisecond, and between two of them less than one
	// refill's worth of failures is forgiven: more often would be wasted on a flood.
	if len(t.clients) >= t.max && now-t.scanned >= t.refill {
		t.scanned = now
		for k, b := range t.clients {
			if b.busy == 0 && t.debt(b, now) == 0 {
				delete(t.clients, k)
			}
		}
	}
	if len(t.clients) >= t.max {
		return t.shared(k)
	}
	b := new(bucket)
	t.clients[k] = b
	return b
}

// shared returns one of the overflow buckets, of which there are an eighth as many as
// clients.
func (t *table) shared(k key) *bucket {
	if t.overflow == nil {
		t.overflow = make([]bucket, max(t.max/8, 1))
	}
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], k.hi)
	binary.BigEndian.PutUint64(b[8:], k.lo)
	return &t.overflow[maphash.Bytes(t.seed, b[:])%uint64(len(t.overflow))]
}

// take lets one guess of the client in, waits for its turn, or returns an error.
func (l *Limiter) take(ctx context.Context, t *table, k key) (*bucket, error) {
	l.mu.Lock()
	now := l.elapsed()
	b := t.bucket(k, now)
	t.serve(b, now) // time may have made room for guesses that wait already
	if err := t.spent(b, now); err != nil {
		l.mu.Unlock()
		return nil, err
	}
	if t.room(b, now) { // and so nobody waits
		b.busy++
		l.mu.Unlock()
		return b, nil
	}
	if b.queue == nil {
		b.queue = list.New()
	}
	turn := make(chan error, 1)
	place := b.queue.PushBack(turn)
	l.mu.Unlock()

	select {
	case err := <-turn:
		return b, err
	case <-ctx.Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case err := <-turn: // served at the same moment
		if err == nil {
			t.settle(k, b, l.elapsed(), false)
		}
	default:
		b.queue.Remove(place)
	}
	return nil, ctx.Err()
}

// settle ends a guess.
func (t *table) settle(k key, b *bucket, now time.Duration, failed bool) {
	b.busy--
	if failed {
		b.full = now + t.debt(b, now) + t.refill
	}
	t.serve(b, now)
	if b.busy == 0 && t.debt(b, now) == 0 && t.clients[k] == b {
		delete(t.clients, k)
	}
}
