package storetest

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/matrix-uia/uia"
)

// editsRecord makes a mutant that keeps another record than it was given.
func editsRecord(edit func(b *broken, r *uia.Record, now *time.Time)) func(*broken) {
	return func(b *broken) {
		b.saveSession = func(ctx context.Context, r uia.Record, now time.Time) (uia.Record, error) {
			b.locked(func() { edit(b, &r, &now) })
			return b.model.SaveSession(ctx, r, now)
		}
	}
}

// editsSaved makes a mutant that changes a record after it was saved.
func editsSaved(edit func(kept, returned *uia.Record, given uia.Record)) func(*broken) {
	return func(b *broken) {
		b.saveSession = func(ctx context.Context, r uia.Record, now time.Time) (uia.Record, error) {
			saved, err := b.model.SaveSession(ctx, r, now)
			if err == nil {
				b.locked(func() {
					kept := b.records[r.Key]
					edit(&kept, &saved, r)
					b.records[r.Key] = kept
				})
			}
			return saved, err
		}
	}
}

var sessionMutants = []mutant{
	{"keeps the data that it was given", editsSaved(func(kept, _ *uia.Record, given uia.Record) { kept.Data = given.Data })},
	{"hands out its own data", func(b *broken) {
		b.loadSession = func(ctx context.Context, key string, now time.Time) (uia.Record, error) {
			r, err := b.model.LoadSession(ctx, key, now)
			if err == nil {
				r.Data = b.records[key].Data
			}
			return r, err
		}
	}},
	{"hands out its own data when it saves", editsSaved(func(kept, returned *uia.Record, _ uia.Record) { returned.Data = kept.Data })},
	{"keeps nanoseconds of a record", editsSaved(func(kept, _ *uia.Record, given uia.Record) { kept.LeaseEnd = given.LeaseEnd.UTC() })},
	{"returns nanoseconds of a record", editsSaved(func(_, returned *uia.Record, given uia.Record) { returned.Expires = given.Expires })},
	{"looks at the clock to load", func(b *broken) {
		b.loadSession = func(ctx context.Context, key string, _ time.Time) (uia.Record, error) {
			return b.model.LoadSession(ctx, key, time.Now())
		}
	}},
	{"takes data for text", editsSaved(func(kept, _ *uia.Record, _ uia.Record) {
		kept.Data = []byte(strings.ToValidUTF8(string(kept.Data), "?"))
	})},
	{"keeps 64 KiB of data", editsSaved(func(kept, _ *uia.Record, _ uia.Record) { kept.Data = kept.Data[:min(len(kept.Data), 1<<16)] })},
	{"forgets the owner", editsSaved(func(kept, _ *uia.Record, _ uia.Record) { kept.Owner = "" })},
	{"has 32 bits for a run", editsSaved(func(kept, _ *uia.Record, _ uia.Record) { kept.Run = int64(int32(kept.Run)) })},
	{"makes no difference between keys of one length", func(b *broken) {
		editsRecord(func(_ *broken, r *uia.Record, _ *time.Time) { r.Key = "k" })(b)
	}},
	{"ignores the case of keys", func(b *broken) {
		b.loadSession = func(ctx context.Context, key string, now time.Time) (uia.Record, error) {
			return b.model.LoadSession(ctx, strings.ToLower(key), now)
		}
	}},
	{"loads a record that is not there", func(b *broken) {
		b.loadSession = func(ctx context.Context, key string, now time.Time) (uia.Record, error) {
			r, err := b.model.LoadSession(ctx, key, now)
			if errors.Is(err, uia.ErrNotFound) {
				err = nil
			}
			return r, err
		}
	}},
	{"loads a record as it expires", func(b *broken) {
		b.loadSession = func(ctx context.Context, key string, now time.Time) (uia.Record, error) {
			return b.model.LoadSession(ctx, key, now.Add(-milli))
		}
	}},
	{"loads no record in its last millisecond", func(b *broken) {
		b.loadSession = func(ctx context.Context, key string, now time.Time) (uia.Record, error) {
			return b.model.LoadSession(ctx, key, now.Add(milli))
		}
	}},
	{"lets a running record expire", func(b *broken) {
		b.loadSession = func(ctx context.Context, key string, now time.Time) (uia.Record, error) {
			r, err := b.model.LoadSession(ctx, key, now)
			if err == nil && !now.Before(r.Expires) {
				err = uia.ErrNotFound
			}
			return r, err
		}
	}},
	{"lets no record that is done expire", func(b *broken) {
		b.loadSession = func(ctx context.Context, key string, now time.Time) (uia.Record, error) {
			if r := b.records[key]; r.State == uia.Done && ctx.Err() == nil {
				return r, nil
			}
			return b.model.LoadSession(ctx, key, now)
		}
	}},
	{"saves whatever the revision", editsRecord(func(b *broken, r *uia.Record, _ *time.Time) { r.Revision = b.records[r.Key].Revision })},
	{"saves over a lower revision", editsRecord(func(b *broken, r *uia.Record, _ *time.Time) {
		if old := b.records[r.Key]; r.Revision > old.Revision {
			r.Revision = old.Revision
		}
	})},
	{"saves what is not there", editsRecord(func(b *broken, r *uia.Record, _ *time.Time) {
		if _, ok := b.records[r.Key]; !ok {
			r.Revision = 0
		}
	})},
	{"saves before it notices a conflict", func(b *broken) {
		b.saveSession = func(ctx context.Context, r uia.Record, now time.Time) (uia.Record, error) {
			saved, err := b.model.SaveSession(ctx, r, now)
			if old, ok := b.records[r.Key]; ok && errors.Is(err, uia.ErrConflict) {
				b.locked(func() { old.Data = r.Data; b.records[r.Key] = old })
			}
			return saved, err
		}
	}},
	{"returns the revision that it was given", editsSaved(func(_, returned *uia.Record, given uia.Record) { returned.Revision = given.Revision })},
	{"does not replace a record that has expired", func(b *broken) {
		b.saveSession = func(ctx context.Context, r uia.Record, now time.Time) (uia.Record, error) {
			if _, ok := b.records[r.Key]; ok && r.Revision == 0 {
				return uia.Record{}, uia.ErrConflict
			}
			return b.model.SaveSession(ctx, r, now)
		}
	}},
	{"replaces a record in its last millisecond", editsRecord(func(_ *broken, r *uia.Record, now *time.Time) {
		if r.Revision == 0 {
			*now = now.Add(milli)
		}
	})},
	{"counts on from the revision of a record that has expired", func(b *broken) {
		b.saveSession = func(ctx context.Context, r uia.Record, now time.Time) (uia.Record, error) {
			old := b.records[r.Key].Revision
			saved, err := b.model.SaveSession(ctx, r, now)
			if err == nil {
				saved.Revision = old + 1
				b.records[r.Key] = saved
			}
			return saved, err
		}
	}},
	{"replaces a running record that is old", editsRecord(func(b *broken, r *uia.Record, now *time.Time) {
		if old := b.records[r.Key]; r.Revision == 0 && old.State == uia.Running && !now.Before(old.Expires) {
			delete(b.records, r.Key)
		}
	})},
	{"does not save over what has expired", func(b *broken) {
		b.saveSession = func(ctx context.Context, r uia.Record, now time.Time) (uia.Record, error) {
			if old, ok := b.records[r.Key]; ok && r.Revision > 0 && expired(old, now) {
				return uia.Record{}, uia.ErrConflict
			}
			return b.model.SaveSession(ctx, r, now)
		}
	}},
	{"does not save over a running record that is old", func(b *broken) {
		b.saveSession = func(ctx context.Context, r uia.Record, now time.Time) (uia.Record, error) {
			if old, ok := b.records[r.Key]; ok && old.State == uia.Running && !now.Before(old.Expires) {
				return uia.Record{}, uia.ErrConflict
			}
			return b.model.SaveSession(ctx, r, now)
		}
	}},
	{"sweeps records in their last millisecond", func(b *broken) {
		b.sweepSessions = func(ctx context.Context, now time.Time, limit int) (int, error) {
			return b.model.SweepSessions(ctx, now.Add(milli), limit)
		}
	}},
	{"sweeps no record as it expires", func(b *broken) {
		b.sweepSessions = func(ctx context.Context, now time.Time, limit int) (int, error) {
			return b.model.SweepSessions(ctx, now.Add(-milli), limit)
		}
	}},
	{"sweeps all records that have expired", func(b *broken) {
		b.sweepSessions = func(ctx context.Context, now time.Time, limit int) (int, error) {
			return b.model.SweepSessions(ctx, now, 1000)
		}
	}},
	{"sweeps running records", func(b *broken) {
		b.sweepSessions = func(ctx context.Context, now time.Time, limit int) (int, error) {
			b.locked(func() {
				for key, r := range b.records {
					if !now.Before(r.Expires) {
						r.State = uia.Open
						b.records[key] = r
					}
				}
			})
			return b.model.SweepSessions(ctx, now, limit)
		}
	}},
	{"never sweeps a running record", func(b *broken) {
		b.sweepSessions = func(ctx context.Context, now time.Time, limit int) (n int, err error) {
			b.locked(func() {
				for key, r := range b.records {
					if n < limit && expired(r, now) && ctx.Err() == nil {
						delete(b.records, key)
						n++
					}
				}
			})
			return n, ctx.Err()
		}
	}},
	{"loses sessions in a restart", func(b *broken) { b.restarted = func() { b.records = map[string]uia.Record{} } }},
	{"writes records late", func(b *broken) {
		var before uia.Record
		b.saveSession = func(ctx context.Context, r uia.Record, now time.Time) (uia.Record, error) {
			old := b.records[r.Key]
			saved, err := b.model.SaveSession(ctx, r, now)
			if err == nil && r.Revision > 0 {
				before = old
			}
			return saved, err
		}
		b.restarted = func() {
			if before.Key != "" {
				b.records[before.Key] = before
			}
		}
	}},
}

// raceMutants look first and act later, and let others come in between.
var raceMutants = []mutant{
	{"counts uses before it adds one", func(b *broken) {
		b.reserve = func(ctx context.Context, h uia.Hold, now time.Time) error {
			var of *modelToken
			var room bool
			b.locked(func() {
				of = b.token(h.Token)
				room = of != nil && of.UsesAllowed != nil && b.use(h.Token, h.Session) == nil && of.Usable(now) == nil && !b.exhausted(of)
			})
			if !room || ctx.Err() != nil {
				return b.model.Reserve(ctx, h, now)
			}
			gosched()
			b.locked(func() { b.add(h, now) })
			return nil
		}
	}},
	{"looks at a use before it commits it", func(b *broken) {
		b.commit = func(ctx context.Context, c uia.Claim, user string, now time.Time) error {
			var u uia.Use
			b.first(ctx, c, func(m *modelUse) { u = m.Use })
			gosched()
			if u.State == uia.Pinned && u.Run == c.Run && user != "" {
				b.first(ctx, c, func(m *modelUse) { m.State, m.UserID, m.Changed = uia.Spent, user, trunc(now) })
				return nil
			}
			return b.model.Commit(ctx, c, user, now)
		}
	}},
	{"looks at a record before it saves it", func(b *broken) {
		b.saveSession = func(ctx context.Context, r uia.Record, now time.Time) (uia.Record, error) {
			var old uia.Record
			b.locked(func() { old = b.records[r.Key] })
			gosched()
			if old.Revision != r.Revision || r.Revision == 0 && old.Key != "" || ctx.Err() != nil {
				return b.model.SaveSession(ctx, r, now)
			}
			r.Revision++
			b.locked(func() { b.records[r.Key] = r })
			return r, nil
		}
	}},
	{"looks for a token before it deletes it", func(b *broken) {
		b.deleteToken = func(ctx context.Context, v string) error {
			if _, err := b.model.Token(ctx, v, epoch); err != nil {
				return err
			}
			gosched()
			b.model.DeleteToken(ctx, v)
			return nil
		}
	}},
	{"looks for tokens before it creates them", func(b *broken) {
		b.createTokens = func(ctx context.Context, tokens ...uia.Token) error {
			for _, t := range tokens {
				if _, err := b.model.Token(ctx, t.Value, epoch); err == nil {
					return uia.ErrExists
				}
			}
			gosched()
			if err := b.model.CreateTokens(ctx, tokens...); !errors.Is(err, uia.ErrExists) || tokens[0].Value == tokens[1].Value {
				return err
			}
			return nil
		}
	}},
	{"counts holds before it sweeps them", func(b *broken) {
		b.sweepHolds = func(ctx context.Context, before time.Time, limit int) (n int, err error) {
			b.locked(func() {
				for _, u := range b.uses {
					if u.State == uia.Held && u.Until.Before(before) && n < limit {
						n++
					}
				}
			})
			gosched()
			_, err = b.model.SweepHolds(ctx, before, limit)
			return n, err
		}
	}},
	{"counts records before it sweeps them", func(b *broken) {
		b.sweepSessions = func(ctx context.Context, now time.Time, limit int) (n int, err error) {
			b.locked(func() {
				for _, r := range b.records {
					if expired(r, now) && n < limit {
						n++
					}
				}
			})
			gosched()
			m, err := b.model.SweepSessions(ctx, now, limit)
			return max(n, m), err
		}
	}},
	{"fails when others are at work", func(b *broken) {
		busy := make(chan struct{}, 1)
		b.reserve = func(ctx context.Context, h uia.Hold, now time.Time) error {
			select {
			case busy <- struct{}{}:
				defer func() { <-busy }()
				gosched()
				return b.model.Reserve(ctx, h, now)
			default:
				return errors.New("database is locked")
			}
		}
	}},
}
