package uia

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"time"

	"github.com/matrix-uia/uia/internal/record"
)

const (
	// recordGrace is how long a record outlives its session ID: "no record" means
	// "nothing completed yet", also for a process whose clock is slow.
	recordGrace = time.Hour
	// maxConflicts bounds how often one request tries again after another has
	// changed the record.
	maxConflicts = 16
)

func (v *visit) loadRecord(ctx context.Context) error {
	r, err := v.e.cfg.Sessions.LoadSession(ctx, v.s.Key, v.e.now())
	if errors.Is(err, ErrNotFound) {
		v.adopt(Record{Key: v.s.Key}, &record.Data{})
		return nil
	}
	if err != nil {
		return err
	}
	data, err := record.Open(v.keys, v.s.ID, r.Data, place(r, r.Revision))
	if err != nil {
		return err
	}
	v.adopt(r, data)
	return nil
}

func (v *visit) adopt(r Record, data *record.Data) {
	v.rec, v.data = r, data
	v.s.setCompleted(data.Completed)
}

// draft is the next revision of a record, before it is written.
type draft struct {
	Record // Revision is that of the record it replaces; Owner is the nonce of this write alone
	data   *record.Data
}

// draft returns the next revision of the record. The nonce distinguishes this write from
// every other write, even from another one of the same run.
func (v *visit) draft(next Record, data *record.Data) draft {
	next.Owner = rand.Text()
	return draft{next, data}
}

// wrote reports whether found is the record that writing this draft has stored.
func (d draft) wrote(found Record) bool {
	return d.Owner != "" && found.Owner == d.Owner && found.Revision == d.Revision+1
}

// store writes the draft. It does not make it the visit's record, because it may run
// inside a transaction that can still fail. ErrConflict means that another request was
// faster.
func (v *visit) store(ctx context.Context, d draft) (draft, error) {
	now := v.e.now()
	d.Expires = time.UnixMilli(v.ticket.Expires).Add(recordGrace)
	if t := now.Add(recordGrace); d.State != Open && d.Expires.Before(t) {
		d.Expires = t
	}
	var err error
	if d.Data, err = d.data.Seal(v.keys, v.s.ID, place(d.Record, d.Revision+1)); err != nil {
		return draft{}, err
	}
	saved, err := v.e.cfg.Sessions.SaveSession(ctx, d.Record, now)
	if err == nil {
		return draft{saved, d.data}, nil
	}
	if changedNothing(err) {
		return draft{}, err
	}
	// The write may have happened although its answer was lost, for example because the
	// client hung up. Or a driver has repeated the write, and the second try is in
	// conflict with the first.
	look, cancel := cleanup(ctx)
	defer cancel()
	found, lookErr := v.e.cfg.Sessions.LoadSession(look, d.Key, now)
	if lookErr != nil || !d.wrote(found) {
		return draft{}, err
	}
	// A group that is run again may have written other data the first time.
	data, openErr := record.Open(v.keys, v.s.ID, found.Data, place(found, found.Revision))
	if openErr != nil {
		return draft{}, errors.Join(err, openErr)
	}
	return draft{found, data}, nil
}

func (v *visit) save(ctx context.Context, next Record, data *record.Data) error {
	saved, err := v.store(ctx, v.draft(next, data))
	if err == nil {
		v.adopt(saved.Record, saved.data)
	}
	return err
}

// running reports whether a request has the operation run now.
func (v *visit) running() bool {
	return v.rec.State == Running && v.e.now().Before(v.rec.LeaseEnd)
}

// inDoubt reports whether an earlier run of the operation may have taken effect: the
// record says so, or a run has taken the lease and never given it back.
func (v *visit) inDoubt() bool { return v.data.Doubt || v.rec.State == Running }

// leased returns the record as it is while the operation runs for this request.
// Runs are even: Recover uses the odd numbers between them.
func (v *visit) leased(data *record.Data) (Record, *record.Data) {
	next, out := v.rec, *data
	next.State = Running
	next.Run = 2 * (v.rec.Revision + 1)
	next.LeaseEnd = v.e.now().Add(v.e.cfg.LeaseTTL)
	out.Params = v.s.Params
	out.Doubt = v.inDoubt() // nobody knows how far the other run came
	out.Sign(v.client(), v.s.Params)
	return next, &out
}

// opened returns the record as it is when nothing runs.
func (v *visit) opened() Record {
	next := v.rec
	next.State = Open
	next.LeaseEnd = time.Time{}
	return next
}

// finished returns the record of a session whose operation has taken effect. A nil
// response cannot be sent again.
func (v *visit) finished(response json.RawMessage) (Record, *record.Data) {
	next := v.rec
	next.State = Done
	next.LeaseEnd = time.Time{}
	data := v.data.End(response, v.e.now().UnixMilli())
	data.Sign(v.client(), v.s.Params)
	return next, data
}

// takeLease takes the record to run the operation for this request.
func (v *visit) takeLease(ctx context.Context) error {
	v.owned, v.pinned, v.unsure = false, false, false // what they said was about another run
	next, data := v.leased(v.data)
	err := v.save(ctx, next, data)
	v.owned = err == nil
	return err
}

// changed reads the record again and reports whether another request has changed it.
func (v *visit) changed(ctx context.Context) (bool, error) {
	before := v.rec.Revision
	err := v.loadRecord(ctx)
	return v.rec.Revision != before, err
}

// reloadRecord loads the record even if the client has gone, to clean up.
func (v *visit) reloadRecord(ctx context.Context) error {
	ctx, cancel := cleanup(ctx)
	defer cancel()
	return v.loadRecord(ctx)
}

// cleanupTime bounds what is done for a client that may have gone.
const cleanupTime = 15 * time.Second

// cleanup returns a context for what must be done although the client may have gone.
func cleanup(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
}

// place returns where the sealed data of a record is kept.
func place(r Record, revision int64) record.Place {
	return record.Place{Key: r.Key, Revision: revision, State: int64(r.State), Run: r.Run}
}
