package storetest

import (
	"encoding/json"
	"fmt"

	"github.com/matrix-uia/uia"
)

// durableCases are about what outlives the process.
var durableCases = []promise{{
	name:  "durable-tokens",
	says:  "When a method has returned nil, what it did is as durable as the store makes anything.",
	needs: aRestart,
	test: func(k *kit) {
		full := uia.Token{
			Value: "t", UsesAllowed: new(int64(9)), Expires: at(day), Label: "label",
			Meta: json.RawMessage(`{"a":1}`), Created: epoch, CreatedBy: "@admin",
		}
		k.create(full, uia.Token{Value: "deleted"}, uia.Token{Value: "revoked"}).ok()
		k.spent("deleted", "s")
		k.pinned("deleted", "p")
		k.held("revoked", "h")
		k.held("t", "h", "r", "u")
		k.pinned("t", "p")
		k.spent("t", "s")
		k.release("t", "r", 0).ok()
		k.pin("t", "u", 4, 0).ok()
		k.unpin("t", "u", 4, hour, 0).ok()
		k.delete("deleted").ok()
		k.revoke("revoked", true)
		before := k.snapshot()
		for i := range 2 {
			k.reopen()
			k.same(fmt.Sprintf("the store after restart %d", i+1), k.snapshot(), before)
		}
		k.rows("t", "h held #0 10m0s", "p pinned #1", "s spent #1 @s", "u held #4 1h0m0s")
		k.pin("t", "u", 4, 0).is(uia.ErrNotHeld)
		k.reserve("deleted", "s", hour, 0).is(uia.ErrSpent)
		k.commit("deleted", "p", 1, "@p", 0).ok()
		k.commit("t", "p", 1, "@p", 0).ok()
		k.commit("t", "s", 1, "@s", 0).ok()
		k.reopen()
		k.counts("t", 0, 2, 2)
	},
}, {
	name:  "durable-sessions",
	says:  "Everything that [TokenStore] says of concurrency, contexts, aliasing, time and durability holds here too.",
	needs: aRestart,
	test: func(k *kit) {
		r := uia.Record{Key: "k", State: uia.Running, Run: 2, Owner: "o", LeaseEnd: at(minute), Expires: at(hour), Data: []byte{0, 1, 255}}
		r = k.save(r, 0)
		k.save(uia.Record{Key: "swept", State: uia.Open, Expires: at(0)}, 0)
		k.sweep(0, 9, 1)
		k.reopen()
		k.same("the record", k.load("k", 0), r)
		k.conflict(uia.Record{Key: "swept", Revision: 1, State: uia.Open, Expires: at(hour)}, 0)
		k.save(r, 0)
		k.reopen()
		k.same("revision", k.load("k", 0).Revision, 2)
		k.conflict(uia.Record{Key: "k", Revision: 1, State: uia.Open, Expires: at(hour)}, 0)
	},
}}
