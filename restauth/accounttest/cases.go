package accounttest

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/matrix-uia/uia/restauth"
)

const maxRun = 1<<63 - 1

var cases = []promise{{
	name: "create",
	says: "Create adds an active account with the Key, Localpart, Hash, Run and Created of a, and returns it.",
	test: func(k *kit) {
		k.find("alice").is(restauth.ErrNotFound)
		k.made("a").is(restauth.ErrNotFound)
		const alice = "a alice x run 4 active"
		k.create("a", "alice", "x", 4).shows(alice)
		k.find("alice").shows(alice)
		k.made("a").shows(alice)
		k.create("b", "bob", "y", 0).shows("b bob y run 0 active")
		k.find("alice").shows(alice)
	},
}, {
	name: "create-again",
	says: "If the key has made an account, that one is returned, whatever the localpart; if it is active and its Run is not higher than a's, it gets the Hash and the Run of a before.",
	test: func(k *kit) {
		k.create("a", "alice", "x", 4).is(nil)
		k.create("a", "alice", "y", 4).shows("a alice y run 4 active") // its answer was lost
		k.create("a", "carol", "z", 6).shows("a alice z run 6 active")
		k.create("a", "alice", "late", 5).shows("a alice z run 6 active")
		k.find("alice").shows("a alice z run 6 active")
		k.find("carol").is(restauth.ErrNotFound)
		k.create("b", "carol", "x", 0).is(nil)
	},
}, {
	name: "create-what-is-taken",
	says: "ErrTaken if an account of another key has the localpart, deactivated or not; then nothing changes.",
	test: func(k *kit) {
		k.create("a", "alice", "x", 4).is(nil)
		k.create("b", "alice", "y", 9).is(restauth.ErrTaken)
		k.made("b").is(restauth.ErrNotFound)
		k.find("alice").shows("a alice x run 4 active")
		k.deactivate("alice").is(nil)
		k.create("b", "alice", "y", 9).is(restauth.ErrTaken)
		k.find("alice").shows("a alice - run 4 deactivated")
		k.create("b", "bob", "y", 9).is(nil) // with another name
	},
}, {
	name: "find-byte-for-byte",
	says: "Localparts are compared byte for byte.",
	test: func(k *kit) {
		k.create("a", "alice", "x", 4).is(nil)
		for _, name := range []string{"Alice", "ALICE", "alice ", "alic", "alice_", "%", "", "alicé"} {
			k.find(name).is(restauth.ErrNotFound)
		}
		k.create("b", "Alice", "y", 0).is(nil)
		k.find("alice").shows("a alice x run 4 active")
	},
}, {
	name: "set-password",
	says: "SetPassword replaces the hash of an active account, and sets its Run so that no run of its registration replaces it again.",
	test: func(k *kit) {
		k.create("a", "alice", "x", 4).is(nil)
		k.create("b", "bob", "x", 4).is(nil)
		k.setPassword("alice", "y").is(nil)
		k.find("alice").shows(fmt.Sprintf("a alice y run %d active", int64(maxRun)))
		k.create("a", "alice", "z", 9).shows(fmt.Sprintf("a alice y run %d active", int64(maxRun)))
		k.setPassword("alice", "z").is(nil)
		k.find("alice").shows(fmt.Sprintf("a alice z run %d active", int64(maxRun)))
		k.find("bob").shows("b bob x run 4 active")
	},
}, {
	name: "set-no-password",
	says: "It returns ErrNotFound if there is no active account.",
	test: func(k *kit) {
		k.setPassword("alice", "y").is(restauth.ErrNotFound)
		k.create("a", "alice", "x", 4).is(nil)
		k.setPassword("Alice", "y").is(restauth.ErrNotFound)
		k.deactivate("alice").is(nil)
		k.setPassword("alice", "y").is(restauth.ErrNotFound)
		k.find("alice").shows("a alice - run 4 deactivated")
	},
}, {
	name: "deactivate",
	says: "Deactivate makes an account Deactivated, without a hash. Repeating it is no error. It returns ErrNotFound if there is no account.",
	test: func(k *kit) {
		k.deactivate("alice").is(restauth.ErrNotFound)
		k.create("a", "alice", "x", 4).is(nil)
		k.create("b", "bob", "x", 4).is(nil)
		k.deactivate("alice").is(nil)
		k.deactivate("alice").is(nil)
		const alice = "a alice - run 4 deactivated"
		k.find("alice").shows(alice)
		k.made("a").shows(alice)
		k.create("a", "alice", "y", 9).shows(alice)
		k.bury("a").shows(alice)
		k.find("bob").shows("b bob x run 4 active")
	},
}, {
	name: "bury",
	says: "If there is none it returns ErrBuried, and from then on no account can be made under the key. Repeating it returns the same.",
	test: func(k *kit) {
		for range 2 {
			k.bury("a").is(restauth.ErrBuried)
			k.bury("b").is(restauth.ErrBuried)
		}
		k.made("a").is(restauth.ErrBuried)
		k.create("a", "alice", "x", 4).is(restauth.ErrBuried)
		k.find("alice").is(restauth.ErrNotFound)
		k.find("").is(restauth.ErrNotFound)
		k.create("c", "alice", "x", 4).is(nil)
	},
}, {
	name: "bury-what-is-made",
	says: "Bury returns the account that the key has made, unchanged.",
	test: func(k *kit) {
		k.create("a", "alice", "x", 4).is(nil)
		k.bury("a").shows("a alice x run 4 active")
		k.create("a", "alice", "y", 5).shows("a alice y run 5 active")
	},
}, {
	name: "a-context-that-has-ended",
	says: "A call whose context has ended returns its error and changes nothing.",
	test: func(k *kit) {
		k.create("a", "alice", "x", 4).is(nil)
		live := k.ctx
		ended, cancel := context.WithCancel(live)
		cancel()
		k.ctx = ended
		for _, o := range []outcome{
			k.create("b", "bob", "x", 4), k.create("a", "alice", "y", 5), k.find("alice"), k.made("a"), k.bury("c"), k.setPassword("alice", "y"), k.deactivate("alice"),
		} {
			o.is(context.Canceled)
		}
		k.ctx = live
		k.find("alice").shows("a alice x run 4 active")
		k.find("bob").is(restauth.ErrNotFound)
		k.create("c", "carol", "x", 4).is(nil)
	},
}, {
	name: "restart", restarts: true,
	says: "What a method has returned survives the process if the store does.",
	test: func(k *kit) {
		k.create("a", "alice", "x", 4).is(nil)
		k.create("b", "bob", "x", 4).is(nil)
		k.deactivate("bob").is(nil)
		k.bury("c").is(restauth.ErrBuried)
		k.reopen()
		k.find("alice").shows("a alice x run 4 active")
		k.made("b").shows("b bob - run 4 deactivated")
		k.made("c").is(restauth.ErrBuried)
	},
}, {
	name: "race-for-a-name",
	says: "Of several keys that create one localpart at once, one gets it.",
	test: func(k *kit) {
		for round := range 3 {
			name := fmt.Sprint("n", round)
			got := k.together(12, func(i int) error {
				return k.create(fmt.Sprint(name, i), name, "x", 1).err
			})
			if got[nil] != 1 || got[restauth.ErrTaken] != 11 {
				k.Fatalf("of 12 keys one gets the name: %v", got)
			}
		}
	},
}, {
	name: "race-with-a-burial",
	says: "Every method is atomic.",
	test: func(k *kit) {
		for round := range 5 {
			key := fmt.Sprint("k", round)
			var mu sync.Mutex
			created, buried := 0, 0
			k.together(8, func(i int) error {
				var err error
				if i%2 == 0 {
					err = k.create(key, key, "x", 1).err
				} else {
					err = k.bury(key).err
				}
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					created++
				case errors.Is(err, restauth.ErrBuried):
					buried++
				}
				return nil
			})
			if created != 8 && buried != 8 {
				k.Fatalf("of 8 calls %d saw an account and %d that there never will be one", created, buried)
			}
		}
	},
}}

// together runs n calls at once, and counts their errors.
func (k *kit) together(n int, call func(i int) error) map[error]int {
	k.Helper()
	var all sync.WaitGroup
	var mu sync.Mutex
	got := map[error]int{}
	start := make(chan struct{})
	for i := range n {
		all.Go(func() {
			<-start
			err := call(i)
			if errors.Is(err, restauth.ErrTaken) {
				err = restauth.ErrTaken
			}
			mu.Lock()
			defer mu.Unlock()
			got[err]++
		})
	}
	close(start)
	all.Wait()
	return got
}
