package storetest

import (
	"bytes"
	"fmt"
	"time"

	"github.com/matrix-uia/uia"
)

// sessionCases are about session records.
var sessionCases = []promise{{
	name: "record-is-kept",
	says: "LoadSession returns the record of this key.",
	test: func(k *kit) {
		all := make([]byte, 256)
		for i := range all {
			all[i] = byte(i)
		}
		for i, r := range []uia.Record{
			{State: uia.Open, Expires: at(hour)},
			{State: uia.Running, Run: 3, Owner: "nonce", LeaseEnd: at(minute), Expires: at(hour), Data: all},
			{State: uia.Done, Run: 1 << 40, Owner: "~", Expires: at(100 * 365 * day), Data: bytes.Repeat([]byte{0xff}, 1<<20)},
		} {
			r.Key = fmt.Sprint("register.", i)
			r.Revision = k.save(r, 0).Revision
			k.same("record", k.load(r.Key, 0), r)
			r.Owner, r.Data, r.Run = "other", nil, r.Run+1
			r.Revision = k.save(r, 0).Revision
			k.same("record", k.load(r.Key, 0), r)
		}
		k.same("the first record", k.load("register.0", 0).Owner, "other")
	},
}, {
	name: "record-expires",
	says: "It returns ErrNotFound if there is none or if it has expired (Expires <= now); a running one does not expire.",
	test: func(k *kit) {
		for _, state := range []uia.RecordState{uia.Open, uia.Running, uia.Done} {
			key := fmt.Sprint("k", state)
			k.save(uia.Record{Key: key, State: state, Expires: at(hour)}, 0)
			k.load(key, hour-milli)
			for _, now := range []time.Duration{hour, hour + milli, 30 * day} {
				_, err := k.LoadSession(k.ctx, key, at(now))
				want := uia.ErrNotFound
				if state == uia.Running {
					want = nil
				}
				k.outcome(err, "LoadSession of a record in state %d at %v", state, now).is(want)
			}
		}
		_, err := k.LoadSession(k.ctx, "K1", epoch)
		k.outcome(err, "LoadSession of another key").is(uia.ErrNotFound)
	},
}, {
	name: "record-compare-and-swap",
	says: "SaveSession stores r if the record has the revision r.Revision, and returns it with the next one.",
	test: func(k *kit) {
		r := uia.Record{Key: "k", State: uia.Open, Expires: at(hour), Data: []byte("0"), Owner: "o"}
		for i := range 5 {
			r.Data = fmt.Append(nil, i)
			got := k.save(r, 0)
			r.Revision = int64(i + 1)
			k.same("the record returned", got, r)
			k.same("the record kept", k.load("k", 0), r)
		}
		for _, revision := range []int64{0, 1, 4, 6, -1} {
			stale := r
			stale.Revision, stale.Data = revision, []byte("stale")
			k.conflict(stale, 0)
			k.same("the record kept", k.load("k", 0), r)
		}
		r.Key = "other"
		k.conflict(r, 0)
		_, err := k.LoadSession(k.ctx, "other", epoch)
		k.outcome(err, "LoadSession").is(uia.ErrNotFound)
	},
}, {
	name: "record-created",
	says: "Revision 0 creates: there must be no record, or an expired one, which it replaces.",
	test: func(k *kit) {
		r := uia.Record{Key: "k", State: uia.Open, Expires: at(hour), Data: []byte("first"), Owner: "o", Run: 4}
		k.save(r, 0)
		r.Revision = k.save(uia.Record{Key: "k", Revision: 1, State: uia.Open, Expires: at(hour)}, 0).Revision
		k.same("revision", r.Revision, 2)
		again := uia.Record{Key: "k", State: uia.Open, Expires: at(2 * hour), Data: []byte("again")}
		k.conflict(again, hour-milli)
		k.same("revision of the replacement", k.save(again, hour).Revision, 1)
		again.Revision = 1
		k.same("the replacement", k.load("k", hour), again)
	},
}, {
	name: "record-running-is-not-replaced",
	says: "a running one does not expire.",
	test: func(k *kit) {
		r := uia.Record{Key: "k", State: uia.Running, Expires: at(hour), Data: []byte("running")}
		r = k.save(r, 0)
		k.conflict(uia.Record{Key: "k", State: uia.Open, Expires: at(3 * hour)}, 2*hour)
		k.same("the record", k.load("k", 2*hour), r)
	},
}, {
	name: "record-expired-can-be-saved",
	says: "Records expire for LoadSession and for creation alone: a record that is present can be saved however old it is.",
	test: func(k *kit) {
		for _, state := range []uia.RecordState{uia.Open, uia.Running} {
			r := k.save(uia.Record{Key: fmt.Sprint("k", state), State: state, Expires: at(minute)}, 0)
			r.State, r.Data, r.Expires = uia.Done, []byte("response"), at(3*hour)
			k.conflict(uia.Record{Key: r.Key, Revision: 2, State: uia.Done, Expires: at(hour)}, hour)
			k.same("revision", k.save(r, hour).Revision, 2)
			k.same("data", string(k.load(r.Key, 2*hour).Data), "response")
		}
	},
}, {
	name: "records-right-without-a-sweeper",
	says: "Calling it is never needed for a session to be right; it gives back space.",
	test: func(k *kit) {
		for i := range 50 {
			now := time.Duration(i) * hour
			r := uia.Record{Key: fmt.Sprint("k", i%3), State: uia.Open, Expires: at(now + 2*hour), Data: fmt.Append(nil, i)}
			k.same("revision", k.save(r, now).Revision, 1)
			k.conflict(r, now)
			k.same("data", string(k.load(r.Key, now+2*hour-milli).Data), fmt.Sprint(i))
			_, err := k.LoadSession(k.ctx, r.Key, at(now+2*hour))
			k.outcome(err, "LoadSession of a record that has expired").is(uia.ErrNotFound)
		}
	},
}, {
	name: "swept-sessions",
	says: "SweepSessions deletes at most limit records that have expired, and returns how many.",
	test: func(k *kit) {
		for i := range 5 {
			k.save(uia.Record{Key: fmt.Sprint("k", i), State: []uia.RecordState{uia.Open, uia.Done}[i%2], Expires: at(time.Duration(i+1) * minute)}, 0)
		}
		k.sweep(minute-milli, 9, 0)
		k.sweep(minute, 9, 1)
		k.sweep(4*minute, 2, 2)
		k.sweep(4*minute, 2, 1)
		k.sweep(4*minute, 2, 0)
		k.load("k4", 4*minute)
		// A record that was swept is gone, also for a request that has loaded it before.
		k.conflict(uia.Record{Key: "k0", Revision: 1, State: uia.Open, Expires: at(hour)}, 0)
		k.same("revision", k.save(uia.Record{Key: "k0", State: uia.Open, Expires: at(hour)}, 0).Revision, 1)
	},
}, {
	name: "swept-running-sessions",
	says: "It leaves a running one until a day after its Expires.",
	test: func(k *kit) {
		k.save(uia.Record{Key: "k", State: uia.Running, Expires: at(hour)}, 0)
		k.save(uia.Record{Key: "open", State: uia.Open, Expires: at(2 * hour)}, 0)
		k.sweep(day+hour-milli, 9, 1)
		k.load("k", day+hour-milli)
		k.sweep(day+hour+milli, 9, 1)
		_, err := k.LoadSession(k.ctx, "k", at(2*day))
		k.outcome(err, "LoadSession of a record that was swept").is(uia.ErrNotFound)
	},
}}

func (k *kit) save(r uia.Record, now time.Duration) uia.Record {
	k.Helper()
	saved, err := k.SaveSession(k.ctx, r, at(now))
	k.outcome(err, "SaveSession(%s, revision %d) at %v", r.Key, r.Revision, now).ok()
	return saved
}

func (k *kit) conflict(r uia.Record, now time.Duration) {
	k.Helper()
	_, err := k.SaveSession(k.ctx, r, at(now))
	k.outcome(err, "SaveSession(%s, revision %d) at %v", r.Key, r.Revision, now).is(uia.ErrConflict)
}

func (k *kit) load(key string, now time.Duration) uia.Record {
	k.Helper()
	r, err := k.LoadSession(k.ctx, key, at(now))
	k.outcome(err, "LoadSession(%s) at %v", key, now).ok()
	return r
}

func (k *kit) sweep(now time.Duration, limit, want int) {
	k.Helper()
	n, err := k.SweepSessions(k.ctx, at(now), limit)
	k.outcome(err, "SweepSessions").ok()
	k.same(fmt.Sprintf("records swept at %v, %d at most", now, limit), n, want)
}
