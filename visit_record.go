package uia

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/matrix-uia/uia/internal/seal"
)

const (
	// recordGrace is how long a record outlives its session ID: "no record" means
	// "nothing completed yet", also for a process whose clock is slow.
	recordGrace = time.Hour
	// maxConflicts bounds how often one request tries again after another has
	// changed the record.
	maxConflicts = 16
)

// recordData is the sealed part of a Record.
type recordData struct {
	Completed []completion `json:"c,omitempty"`
	// Params are the latest parameters that came with a completed stage or a run.
	Params json.RawMessage `json:"p,omitempty"`
	// Doubt says that an earlier run of the operation may have taken effect, or may still
	// take effect: its use must not be given back before Resolve has been asked.
	Doubt bool `json:"d,omitempty"`

	// Of the request that has had the operation run last.
	Request []byte `json:"q,omitempty"` // its MAC
	Sent    []byte `json:"s,omitempty"` // MAC of the parameters that counted; absent if there were none

	// Of a finished session.
	Response json.RawMessage `json:"o,omitempty"` // absent if it cannot be sent again
	Dead     bool            `json:"x,omitempty"` // the operation can never succeed under this key
	Finished int64           `json:"f,omitempty"` // milliseconds since 1970
}

// with returns a copy that has one more completion.
func (d *recordData) with(c completion) *recordData {
	out := *d
	out.Completed = append(slices.Clone(d.Completed), c)
	return &out
}

func (v *visit) loadRecord(ctx context.Context) error {
	r, err := v.e.cfg.Sessions.LoadSession(ctx, v.s.Key, v.e.now())
	if errors.Is(err, ErrNotFound) {
		v.adopt(Record{Key: v.s.Key}, &recordData{})
		return nil
	}
	if err != nil {
		return err
	}
	data, err := openRecord(v.keys, v.s.ID, r)
	if err != nil {
		return err
	}
	v.adopt(r, data)
	return nil
}

func (v *visit) adopt(r Record, data *recordData) {
	v.rec, v.data = r, data
	v.s.setCompleted(data.Completed)
}

// draft is the next revision of a record, before it is written.
type draft struct {
	Record // Revision is that of the record it replaces; Owner is the nonce of this write alone
	data   *recordData
}

// draft returns the next revision of the record. The nonce distinguishes this write from
// every other write, even from another one of the same run.
func (v *visit) draft(next Record, data *recordData) draft {
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
	if err := sealRecord(v.keys, v.s.ID, d.data, &d.Record); err != nil {
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
	data, openErr := openRecord(v.keys, v.s.ID, found)
	if openErr != nil {
		return draft{}, errors.Join(err, openErr)
	}
	return draft{found, data}, nil
}

func (v *visit) save(ctx context.Context, next Record, data *recordData) error {
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
func (v *visit) leased(data *recordData) (Record, *recordData) {
	next, out := v.rec, *data
	next.State = Running
	next.Run = 2 * (v.rec.Revision + 1)
	next.LeaseEnd = v.e.now().Add(v.e.cfg.LeaseTTL)
	out.Params = v.s.Params
	out.Doubt = v.inDoubt() // nobody knows how far the other run came
	v.sign(&out)
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
func (v *visit) finished(response json.RawMessage) (Record, *recordData) {
	next := v.rec
	next.State = Done
	next.LeaseEnd = time.Time{}
	data := &recordData{Response: response, Finished: v.e.now().UnixMilli()}
	for _, c := range v.data.Completed {
		data.Completed = append(data.Completed, completion{Type: c.Type})
	}
	v.sign(data)
	return next, data
}

// sign records for which request the operation runs; see sameClient.
func (v *visit) sign(data *recordData) {
	data.Request, data.Sent = v.keys.MAC(v.s.Key, v.body), nil
	if hasMembers(v.s.Params) {
		data.Sent = v.keys.MAC(v.s.Key, v.s.Params)
	}
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

// sealRecord seals data for the revision that the record is about to have.
func sealRecord(k *seal.Keys, id string, data *recordData, r *Record) error {
	var plain bytes.Buffer
	e := json.NewEncoder(&plain)
	e.SetEscapeHTML(false) // parameters must come back as they were, in canonical form
	if err := e.Encode(data); err != nil {
		return err
	}
	r.Data = k.Seal(id, plain.Bytes(), recordBinding(r, r.Revision+1))
	return nil
}

func openRecord(k *seal.Keys, id string, r Record) (*recordData, error) {
	plain, err := k.Open(id, r.Data, recordBinding(&r, r.Revision))
	if err != nil {
		return nil, fmt.Errorf("uia: session record %s cannot be opened: %w", r.Key, err)
	}
	data := &recordData{}
	if err := json.Unmarshal(plain, data); err != nil {
		return nil, fmt.Errorf("uia: session record %s is damaged", r.Key)
	}
	return data, nil
}

// recordBinding is what the sealed data of a record is bound to. Revision and state are
// part of it, so that an attacker who can write to the database cannot put an old
// revision in the place of a new one.
func recordBinding(r *Record, revision int64) []byte {
	out := binary.AppendUvarint(nil, uint64(len(r.Key)))
	out = append(out, r.Key...)
	out = binary.AppendVarint(out, revision)
	out = binary.AppendVarint(out, int64(r.State))
	return binary.AppendVarint(out, r.Run)
}
