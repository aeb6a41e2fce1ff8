package claimtest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/matrix-uia/uia/gateway"
)

var reserveCases = []promise{{
	name: "reserve",
	says: "If there is none, or it is Free or Reserved, it becomes Reserved with c.Localpart, and what was sealed is gone.",
	test: func(k *kit) {
		k.reserve("a", "alice", 4, second).shows("a alice run 4 reserved - 1s")
		k.reserve("a", "alice", 4, 2*second).shows("a alice run 4 reserved - 2s") // repeated
		k.reserve("a", "bob", 6, 3*second).shows("a bob run 6 reserved - 3s")
		k.save("a", 6, gateway.Reserved, "x", 3*second).is(nil)
		k.reserve("a", "bob", 6, 4*second).shows("a bob run 6 reserved - 4s")
		k.save("a", 6, gateway.Free, "y", 4*second).is(nil)
		k.reserve("a", "carol", 8, 5*second).shows("a carol run 8 reserved - 5s")
		k.all("a carol run 8 reserved - 5s")
	},
}, {
	name: "reserve-what-is-sent",
	says: "If it is Sent it bears c.Run from then on, and is otherwise unchanged.",
	test: func(k *kit) {
		k.brought("a", "alice", gateway.Sent)
		k.reserve("a", "bob", 6, second).shows("a alice run 6 sent x 0s")
		k.all("a alice run 6 sent x 0s")
		k.save("a", 4, gateway.Made, "", second).is(gateway.ErrOvertaken)
		k.reserve("b", "bob", 2, 0).is(nil) // the name that it was asked for is free
	},
}, {
	name: "reserve-what-is-final",
	says: "If it is final it is unchanged, whatever c.Run.",
	test: func(k *kit) {
		k.brought("a", "alice", gateway.Made)
		k.brought("b", "bob", gateway.Buried)
		k.unchanged(func() {
			for _, run := range []int64{2, 4, 6} {
				k.reserve("a", "carol", run, second).shows("a alice run 4 made - 0s")
				k.reserve("b", "carol", run, second).shows("b bob run 4 buried x 0s")
			}
		})
	},
}, {
	name: "reserve-by-a-lower-run",
	says: "It returns ErrOvertaken if a claim that is not final bears a higher run",
	test: func(k *kit) {
		for i, s := range []gateway.State{gateway.Free, gateway.Reserved, gateway.Sent} {
			key := fmt.Sprint("k", i)
			k.brought(key, key, s)
			k.unchanged(func() { k.reserve(key, key, 3, second).is(gateway.ErrOvertaken) })
			k.reserve(key, key, 4, second).is(nil)
		}
	},
}, {
	name: "reserve-a-name-that-is-taken",
	says: "ErrTaken if the claim of another key is Reserved or Sent with c.Localpart and this one would become so; then nothing changes.",
	test: func(k *kit) {
		k.brought("a", "alice", gateway.Reserved)
		k.brought("b", "bob", gateway.Sent)
		k.brought("f", "carol", gateway.Free)
		k.brought("r", "dan", gateway.Reserved)
		k.brought("s", "eve", gateway.Sent)
		k.unchanged(func() {
			for _, name := range []string{"alice", "bob"} {
				for _, key := range []string{"new", "f", "r"} {
					k.reserve(key, name, 6, second).is(gateway.ErrTaken)
				}
			}
		})
		k.reserve("s", "alice", 6, second).shows("s eve run 6 sent x 0s") // it does not become so
	},
}, {
	name: "names-become-free",
	says: "It returns ErrOvertaken if a claim that is not final bears a higher run, and ErrTaken if the claim of another key is Reserved or Sent with c.Localpart",
	test: func(k *kit) {
		for i, s := range []gateway.State{gateway.Free, gateway.Made, gateway.Buried} {
			key, name := fmt.Sprint("k", i), fmt.Sprint("n", i)
			k.brought(key, name, s)
			k.reserve("other-"+key, name, 2, second).is(nil)
		}
		k.brought("moved", "alice", gateway.Reserved)
		k.reserve("moved", "bob", 4, 0).is(nil)
		k.reserve("next", "alice", 2, 0).is(nil) // it was given up for another name
		k.brought("deleted", "dan", gateway.Reserved)
		if err := k.Delete(k.ctx, gateway.Claim{Key: "deleted", Run: 4, State: gateway.Reserved}); err != nil {
			k.Fatalf("Delete: %v", err)
		}
		k.reserve("last", "dan", 2, 0).is(nil)
		k.brought("buried", "eve", gateway.Reserved)
		k.bury("buried", 0).is(nil)
		k.reserve("heir", "eve", 2, 0).is(nil)
	},
}}

var saveCases = []promise{{
	name: "save",
	says: "Save writes c.State and c.Sealed, if the claim of c.Key is Reserved or Sent and bears c.Run, and returns it.",
	test: func(k *kit) {
		k.reserve("a", "alice", 4, 0).is(nil)
		k.save("a", 4, gateway.Sent, "one", second).shows("a alice run 4 sent one 1s")
		k.save("a", 4, gateway.Sent, "two", 2*second).shows("a alice run 4 sent two 2s")
		k.all("a alice run 4 sent two 2s")
		k.save("a", 4, gateway.Reserved, "", 3*second).shows("a alice run 4 reserved - 3s")
		k.save("a", 4, gateway.Sent, "three", 4*second).is(nil)
		k.save("a", 4, gateway.Made, "", 5*second).shows("a alice run 4 made - 5s")
		k.all("a alice run 4 made - 5s")
	},
}, {
	name: "save-is-repeatable",
	says: "If it is in c.State already with that run, so that the answer to an earlier call may have been lost, it is returned as it is.",
	test: func(k *kit) {
		for i, s := range []gateway.State{gateway.Free, gateway.Made, gateway.Buried} {
			key := fmt.Sprint("k", i)
			k.brought(key, key, gateway.Sent)
			k.save(key, 4, s, "y", second).is(nil)
			k.unchanged(func() {
				k.save(key, 4, s, "z", 2*second).shows(fmt.Sprintf("%s %s run 4 %s y 1s", key, key, states[s]))
			})
		}
	},
}, {
	name: "save-what-is-not-this-runs",
	says: "Otherwise Save returns ErrOvertaken, also if there is no claim, and changes nothing.",
	test: func(k *kit) {
		k.save("none", 4, gateway.Sent, "x", 0).is(gateway.ErrOvertaken)
		for s := gateway.Free; s <= gateway.Buried; s++ {
			key := fmt.Sprint("k", int(s))
			k.brought(key, key, s)
			k.unchanged(func() {
				for to := gateway.Free; to <= gateway.Buried; to++ {
					for _, run := range []int64{3, 5} {
						k.save(key, run, to, "y", second).is(gateway.ErrOvertaken)
					}
					if to != s && s != gateway.Reserved && s != gateway.Sent {
						k.save(key, 4, to, "y", second).is(gateway.ErrOvertaken)
					}
				}
			})
		}
	},
}}

var otherCases = []promise{{
	name: "bury",
	says: "Otherwise, and if there is none, it makes the claim Buried, whatever its run, and returns that: from then on no run can reserve, save or send anything under this key.",
	test: func(k *kit) {
		k.bury("none", second).shows("none - run 0 buried - 1s")
		k.brought("free", "alice", gateway.Free)
		k.brought("reserved", "bob", gateway.Reserved)
		k.bury("free", second).shows("free alice run 4 buried - 1s")
		k.bury("reserved", second).shows("reserved bob run 4 buried - 1s")
		k.unchanged(func() {
			for _, key := range []string{"none", "free", "reserved"} {
				if c := k.reserve(key, "carol", 8, 2*second).claim; c.State != gateway.Buried {
					k.Fatalf("Reserve(%s): got %s", key, show(c))
				}
				k.save(key, 8, gateway.Sent, "x", 2*second).is(gateway.ErrOvertaken)
				k.save(key, 4, gateway.Sent, "x", 2*second).is(gateway.ErrOvertaken)
			}
		})
	},
}, {
	name: "bury-what-may-be-something",
	says: "Bury returns the claim of the key if it is Sent or final, unchanged.",
	test: func(k *kit) {
		k.brought("sent", "alice", gateway.Sent)
		k.brought("made", "bob", gateway.Made)
		k.brought("buried", "carol", gateway.Buried)
		k.unchanged(func() {
			k.bury("sent", second).shows("sent alice run 4 sent x 0s")
			k.bury("made", second).shows("made bob run 4 made - 0s")
			k.bury("buried", second).shows("buried carol run 4 buried x 0s")
		})
	},
}, {
	name: "list",
	says: "List returns at most q.Limit claims that q asks for, those that changed first coming first.",
	test: func(k *kit) {
		k.brought("made", "a", gateway.Made)
		for i, name := range strings.Fields("c a d b") {
			k.brought("k"+name, name, gateway.Sent)
			k.save("k"+name, 4, gateway.Sent, "x", time.Duration(i+1)*second).is(nil)
		}
		list := func(q gateway.ClaimQuery, want ...string) {
			k.Helper()
			got, err := k.List(k.ctx, q)
			if err != nil {
				k.Fatalf("List(%+v): %v", q, err)
			}
			keys := []string{}
			for _, c := range got {
				keys = append(keys, c.Key)
			}
			if fmt.Sprint(keys) != fmt.Sprint(want) {
				k.Fatalf("List(%+v): got %v, want %v", q, keys, want)
			}
		}
		list(gateway.ClaimQuery{State: gateway.Sent, Limit: 10}, "kc", "ka", "kd", "kb")
		list(gateway.ClaimQuery{State: gateway.Sent, Limit: 2}, "kc", "ka")
		list(gateway.ClaimQuery{State: gateway.Sent, Limit: 10, Before: at(3 * second)}, "kc", "ka")
		list(gateway.ClaimQuery{State: gateway.Sent, Limit: 10, Before: at(3*second + time.Millisecond)}, "kc", "ka", "kd")
		list(gateway.ClaimQuery{State: gateway.Sent, Limit: 10, Localpart: "a"}, "ka")
		list(gateway.ClaimQuery{State: gateway.Made, Limit: 10, Localpart: "a"}, "made")
		list(gateway.ClaimQuery{State: gateway.Free, Limit: 10})
		list(gateway.ClaimQuery{State: gateway.Sent})
	},
}, {
	name: "delete",
	says: "Delete forgets the claim of c.Key if it still bears c.Run and is in c.State.",
	test: func(k *kit) {
		for s := gateway.Free; s <= gateway.Buried; s++ {
			k.brought("a", "alice", s)
			if err := k.Delete(k.ctx, gateway.Claim{Key: "a", Run: 4, State: s}); err != nil {
				k.Fatalf("Delete(%s): %v", states[s], err)
			}
			k.all()
		}
		k.reserve("a", "alice", 2, 0).shows("a alice run 2 reserved - 0s") // nothing is remembered
	},
}, {
	name: "delete-another",
	says: "Otherwise it changes nothing, and that is no error.",
	test: func(k *kit) {
		for s := gateway.Free; s <= gateway.Buried; s++ {
			k.brought(fmt.Sprint("k", int(s)), fmt.Sprint("n", int(s)), s)
		}
		k.unchanged(func() {
			for s := gateway.Free; s <= gateway.Buried; s++ {
				for _, c := range []gateway.Claim{
					{Key: fmt.Sprint("k", int(s)), Run: 3, State: s}, {Key: fmt.Sprint("k", int(s)), Run: 5, State: s},
					{Key: fmt.Sprint("k", int(s)), Run: 4, State: s%gateway.Buried + 1}, {Key: "none", Run: 4, State: s},
				} {
					if err := k.Delete(k.ctx, c); err != nil {
						k.Fatalf("Delete(%s): %v", show(c), err)
					}
				}
			}
		})
	},
}, {
	name: "time",
	says: "Time is an argument; it is kept in milliseconds and returned in UTC.",
	test: func(k *kit) {
		east := time.FixedZone("east", 3600)
		now := at(second + 999*time.Microsecond).In(east)
		for range 2 {
			c, err := k.Reserve(k.ctx, gateway.Claim{Key: "a", Localpart: "alice", Run: 4}, now)
			k.outcome(c, err, "Reserve").shows("a alice run 4 reserved - 1s")
			c, err = k.Save(k.ctx, gateway.Claim{Key: "a", Run: 4, State: gateway.Reserved}, now)
			k.outcome(c, err, "Save").shows("a alice run 4 reserved - 1s")
			c, err = k.Bury(k.ctx, "b", now)
			k.outcome(c, err, "Bury").shows("b - run 0 buried - 1s")
		}
		k.all("a alice run 4 reserved - 1s", "b - run 0 buried - 1s")
	},
}, {
	name: "a-context-that-has-ended",
	says: "A call whose context has ended returns its error and changes nothing.",
	test: func(k *kit) {
		k.brought("a", "alice", gateway.Reserved)
		ctx, cancel := context.WithCancel(k.ctx)
		cancel()
		k.unchanged(func() {
			for name, call := range map[string]func() error{
				"Reserve": func() error {
					_, err := k.Reserve(ctx, gateway.Claim{Key: "b", Localpart: "bob", Run: 4}, epoch)
					return err
				},
				"Save": func() error {
					_, err := k.Save(ctx, gateway.Claim{Key: "a", Run: 4, State: gateway.Sent}, epoch)
					return err
				},
				"Bury":   func() error { _, err := k.Bury(ctx, "a", epoch); return err },
				"List":   func() error { _, err := k.List(ctx, gateway.ClaimQuery{State: gateway.Reserved, Limit: 1}); return err },
				"Delete": func() error { return k.Delete(ctx, gateway.Claim{Key: "a", Run: 4, State: gateway.Reserved}) },
			} {
				if err := call(); !errors.Is(err, context.Canceled) {
					k.Fatalf("%s with a cancelled context: %v", name, err)
				}
			}
		})
	},
}, {
	name: "nothing-is-shared",
	says: "It is safe for concurrent use",
	test: func(k *kit) {
		k.reserve("a", "alice", 4, 0).is(nil)
		sealed := []byte("x")
		saved, err := k.Save(k.ctx, gateway.Claim{Key: "a", Run: 4, State: gateway.Sent, Sealed: sealed}, epoch)
		k.outcome(saved, err, "Save").is(nil)
		sealed[0] = 'y'
		saved.Sealed[0] = 'z'
		k.all("a alice run 4 sent x 0s")
		c := k.bury("a", 0).shows("a alice run 4 sent x 0s")
		c.Sealed[0] = 'z'
		k.all("a alice run 4 sent x 0s")
	},
}, {
	name: "odd-text",
	says: "Key is the session's key, at most 128 bytes.",
	test: func(k *kit) {
		key := strings.Repeat("k", 128)
		k.reserve(key, "o'brien-\"%_", 1<<62, 0).is(nil)
		sealed := strings.Repeat("\x00\xff'", 1365)
		k.save(key, 1<<62, gateway.Sent, sealed, 0).is(nil)
		k.all(key + " o'brien-\"%_ run 4611686018427387904 sent " + sealed + " 0s")
		k.reserve(key+"x", "O'Brien-\"%_", 1, 0).is(nil) // names are compared byte for byte
	},
}, {
	name:     "survives-a-restart",
	says:     "What a method has returned survives the process if the store does.",
	restarts: true,
	test: func(k *kit) {
		k.brought("a", "alice", gateway.Sent)
		k.brought("b", "bob", gateway.Made)
		k.bury("c", second).is(nil)
		before := k.dump()
		k.reopen()
		k.all(before...)
		k.reserve("d", "alice", 4, 0).is(gateway.ErrTaken)
	},
}}
