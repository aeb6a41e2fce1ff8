package claimtest

import (
	"errors"
	"fmt"
	"sync"

	"github.com/matrix-uia/uia/gateway"
)

var raceCases = []promise{{
	name: "race-for-a-name",
	says: "Of several keys that reserve one localpart at once, one gets it.",
	test: func(k *kit) {
		for round := range 5 {
			name := fmt.Sprint("n", round)
			got := k.together(16, func(i int) error {
				_, err := k.Reserve(k.ctx, gateway.Claim{Key: fmt.Sprint(name, ".", i), Localpart: name, Run: 2}, epoch)
				return err
			})
			if got[nil] != 1 || got[gateway.ErrTaken] != 15 {
				k.Fatalf("16 keys reserve one name: %v", got)
			}
		}
	},
}, {
	name: "race-of-runs",
	says: "Reserve takes the claim of c.Key for c.Run.",
	test: func(k *kit) {
		for round := range 5 {
			key := fmt.Sprint("k", round)
			k.together(16, func(i int) error {
				_, err := k.Reserve(k.ctx, gateway.Claim{Key: key, Localpart: key, Run: int64(i + 1)}, epoch)
				return err
			})
			k.bury("other", 0).is(nil)
			if c := k.reserve(key, key, 16, 0).claim; c.Run != 16 || c.State != gateway.Reserved {
				k.Fatalf("16 runs reserve one claim: %s", show(c))
			}
		}
	},
}, {
	name: "race-of-burial-and-run",
	says: "from then on no run can reserve, save or send anything under this key.",
	test: func(k *kit) {
		for round := range 20 {
			key := fmt.Sprint("k", round)
			var buried gateway.Claim
			var sent bool
			k.together(2, func(i int) (err error) {
				if i == round%2 { // a scheduler tends to begin with the same one
					buried, err = k.Bury(k.ctx, key, epoch)
					return err
				}
				if _, err = k.Reserve(k.ctx, gateway.Claim{Key: key, Localpart: key, Run: 2}, epoch); err == nil {
					_, err = k.Save(k.ctx, gateway.Claim{Key: key, Run: 2, State: gateway.Sent}, epoch)
				}
				sent = err == nil
				return err
			})
			if sent && buried.State != gateway.Sent || !sent && buried.State != gateway.Buried {
				k.Fatalf("Bury says %s, and sent is %v", show(buried), sent)
			}
		}
	},
}, {
	name: "race-to-the-end",
	says: "Otherwise Save returns ErrOvertaken, also if there is no claim, and changes nothing.",
	test: func(k *kit) {
		for round := range 5 {
			key := fmt.Sprint("k", round)
			k.brought(key, key, gateway.Sent)
			got := k.together(16, func(i int) error {
				to := gateway.Made
				if i%2 == 0 {
					to = gateway.Buried
				}
				_, err := k.Save(k.ctx, gateway.Claim{Key: key, Run: 4, State: to}, epoch)
				return err
			})
			if got[nil] != 8 || got[gateway.ErrOvertaken] != 8 {
				k.Fatalf("8 say that it is made, and 8 that it is not: %v", got)
			}
		}
	},
}}

// together runs n calls at once, and counts their errors.
func (k *kit) together(n int, call func(i int) error) map[error]int {
	k.Helper()
	var wg sync.WaitGroup
	var mu sync.Mutex
	got := map[error]int{}
	start := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-start
			err := call(i)
			for _, known := range []error{gateway.ErrTaken, gateway.ErrOvertaken} {
				if errors.Is(err, known) {
					err = known
				}
			}
			mu.Lock()
			defer mu.Unlock()
			got[err]++
		})
	}
	close(start)
	wg.Wait()
	for err := range got {
		if err != nil && err != gateway.ErrTaken && err != gateway.ErrOvertaken {
			k.Fatalf("a call fails: %v", err)
		}
	}
	return got
}
