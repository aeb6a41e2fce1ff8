package sqlstore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/matrix-uia/uia"
)

const (
	// secretLength is the length of a secret that this package makes, in bytes.
	secretLength = 32
	// minRotation bounds how many secrets are good at a time.
	minRotation = time.Hour
	// keepSecret is how long a secret still opens what it has sealed: for longer than
	// any session lives (uia.Config.SessionTTL is at most 12 hours), by clocks that
	// differ.
	keepSecret = 13 * time.Hour
	// secretLead is how long before it seals a secret is made. In that time every process
	// reads it, because no process uses what it has read for longer than secretTrust. The
	// difference between the two allows for clocks that differ and for a slow database.
	secretLead  = 10 * time.Minute
	secretTrust = 5 * time.Minute
	// secretFresh is how often the table is read.
	secretFresh = time.Minute
	// secretTime bounds how long reading it may take, and secretPause is how long a
	// process then uses the secrets that it has before it tries again.
	secretTime  = 30 * time.Second
	secretPause = 10 * time.Second
)

// Secrets returns the secrets that the processes on this database share, for uia.Config
// and whatever else draws on [uia.Secrets]. The first process makes the first one. A new
// one follows each time that every, which is at least an hour, has passed; zero means
// that the first secret stays for ever. A secret that was replaced still opens sessions
// for 13 hours, which is longer than any session lives, and is then deleted.
//
// A new secret is made ten minutes before the first process seals with it, and a process
// that cannot read the table for five minutes answers with an error instead of using the
// secrets that it has. So every process knows a secret before any process seals with it,
// as long as their clocks differ by less than four minutes. There is no goroutine for
// this: a request that finds that the secrets were read more than a minute ago reads the
// table again, and makes or deletes a secret if it is time, while other requests go on.
//
// An attacker who can read the database can read the secrets in it. That does not open a
// session: its record is sealed under a key that needs the session ID too, which is not
// stored.
func (s *Store) Secrets(every time.Duration) uia.Secrets {
	if every != 0 && every < minRotation {
		err := fmt.Errorf("sqlstore: secrets cannot rotate every %v: use at least %v, or zero for never", every, minRotation)
		return func(context.Context, time.Time) ([][]byte, error) { return nil, err }
	}
	return (&secretSource{store: s, every: every}).secrets
}

// secretSource is what one process knows of the secrets.
type secretSource struct {
	store *Store
	every time.Duration
	known atomic.Pointer[knownSecrets]

	mu      sync.Mutex
	reading *reading // nil: nobody reads the table
}

// knownSecrets are the secrets as the table had them. They are not changed.
type knownSecrets struct {
	read  time.Time // when
	again time.Time // when the table should be read next
	all   []storedSecret
	lists [][][]byte // for each secret: this one first, then all others
}

type storedSecret struct {
	number int64
	value  []byte
	since  time.Time // when processes begin to seal with it
}

// reading is one look at the table, which several requests may wait for.
type reading struct {
	done  chan struct{} // closed when known and err are set
	known *knownSecrets
	err   error
}

// secrets is the uia.Secrets.
func (src *secretSource) secrets(ctx context.Context, now time.Time) (_ [][]byte, err error) {
	known := src.known.Load()
	inTx := src.store.state(ctx) != nil
	switch {
	case known.trusted(now) && (inTx || now.Before(known.again)):
	case inTx:
		// Read in the caller's transaction: it may have locks that another connection
		// would wait for. Do not remember the result, because the transaction may be
		// rolled back.
		var all []storedSecret
		if all, err = src.store.on(ctx).secrets(ctx); err == nil {
			known, err = newKnownSecrets(all, now)
		}
	case known.trusted(now):
		if r, mine := src.join(); mine {
			src.read(ctx, now, r)
			known = r.known
		}
	default:
		r, mine := src.join()
		if mine {
			src.read(ctx, now, r)
		}
		select {
		case <-r.done:
			known, err = r.known, r.err
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("sqlstore: reading the secrets: %w", err)
	}
	return known.at(now), nil
}

// join returns the reading that is under way or, with mine, a new one, which the caller
// has to do.
func (src *secretSource) join() (r *reading, mine bool) {
	src.mu.Lock()
	defer src.mu.Unlock()
	if mine = src.reading == nil; mine {
		src.reading = &reading{done: make(chan struct{})}
	}
	return src.reading, mine
}

// read reads the table, and makes or deletes a secret if it is time to. The reading
// serves other requests too, so it goes on if the client hangs up. An error is returned
// only if the secrets that were read before can no longer be trusted.
func (src *secretSource) read(ctx context.Context, now time.Time, r *reading) {
	defer func() {
		src.mu.Lock()
		src.reading = nil
		src.mu.Unlock()
		close(r.done)
	}()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), secretTime)
	defer cancel()
	r.err = errors.New("the database panicked")
	all, err := src.store.on(ctx).secrets(ctx)
	if err == nil && (src.next(all, now) != nil || src.spent(all, now) > 0) {
		all, err = src.rotate(ctx, now)
	}
	if err == nil {
		r.known, err = newKnownSecrets(all, now)
	} else if last := src.known.Load(); last.trusted(now) {
		later := *last
		later.again = now.Add(secretPause)
		r.known, err = &later, nil
	}
	if r.err = err; err == nil {
		src.known.Store(r.known)
	}
}

func newKnownSecrets(all []storedSecret, now time.Time) (*knownSecrets, error) {
	if len(all) == 0 {
		return nil, errors.New("there is none")
	}
	known := &knownSecrets{read: now, again: now.Add(secretFresh), all: all, lists: make([][][]byte, len(all))}
	for i := range all {
		known.lists[i] = append(known.lists[i], all[i].value)
		for j := len(all) - 1; j >= 0; j-- {
			if j != i {
				known.lists[i] = append(known.lists[i], all[j].value)
			}
		}
	}
	return known, nil
}

// trusted reports whether a process may still use the secrets that it has read. After its
// clock was set back it may not.
func (k *knownSecrets) trusted(now time.Time) bool {
	return k != nil && now.Sub(k.read).Abs() < secretTrust
}

// at returns the list for this moment: the latest secret that has begun seals.
func (k *knownSecrets) at(now time.Time) [][]byte {
	for i := len(k.all) - 1; i > 0; i-- {
		if !now.Before(k.all[i].since) {
			return k.lists[i]
		}
	}
	return k.lists[0]
}

// next returns the secret to be made, nil if it is not time yet.
func (src *secretSource) next(all []storedSecret, now time.Time) *storedSecret {
	if len(all) == 0 {
		return &storedSecret{number: 1, since: now} // no process seals yet, so none has to read this one first
	}
	last := all[len(all)-1]
	since := last.since.Add(src.every)
	if ready := now.Add(secretLead); src.every == 0 || since.After(ready) {
		return nil
	} else if since.Before(ready) {
		since = ready
	}
	return &storedSecret{number: last.number + 1, since: since}
}

// spent returns how many of the secrets have been replaced for so long that they open
// nothing any more.
func (src *secretSource) spent(all []storedSecret, now time.Time) int {
	for i := len(all) - 1; i > 0; i-- {
		if !now.Before(all[i].since.Add(keepSecret)) {
			return i
		}
	}
	return 0
}

// rotate makes and deletes what is due, and returns what there is then.
func (src *secretSource) rotate(ctx context.Context, now time.Time) (all []storedSecret, err error) {
	err = src.store.write(ctx, func(c conn) error {
		if all, err = c.secrets(ctx); err != nil {
			return err
		}
		if next := src.next(all, now); next != nil {
			// Of several processes one inserts; all of them read what that one wrote.
			value := make([]byte, secretLength)
			rand.Read(value)
			if _, err := c.exec(ctx, `INSERT INTO uia_secrets (number, value, since) VALUES ($1, $2, $3)
				ON CONFLICT (number) DO NOTHING`, next.number, value, ms(next.since)); err != nil {
				return err
			}
		}
		if n := src.spent(all, now); n > 0 {
			if _, err := c.exec(ctx, `DELETE FROM uia_secrets WHERE number < $1`, all[n].number); err != nil {
				return err
			}
		}
		all, err = c.secrets(ctx)
		return err
	})
	return all, err
}

// secrets returns the secrets in the order in which they were made.
func (c conn) secrets(ctx context.Context) (all []storedSecret, err error) {
	err = c.each(ctx, `SELECT number, value, since FROM uia_secrets ORDER BY number`, nil, func(row scanner) error {
		var s storedSecret
		var since int64
		if err := row.Scan(&s.number, &s.value, &since); err != nil {
			return err
		}
		s.since = fromMS(since)
		all = append(all, s)
		return nil
	})
	return all, err
}
