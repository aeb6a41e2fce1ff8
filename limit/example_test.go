package limit_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/limit"
)

// A homeserver whose /login can be guessed at too gives the engine and its own
// handler one limiter: they then draw on one budget.
func Example_oneBudget() {
	limiter, err := limit.New(&limit.Options{Burst: 2, Refill: time.Minute})
	if err != nil {
		panic(err)
	}
	login := func(client netip.Addr, password string) {
		settle, err := limiter.Charge(context.Background(), client)
		if spent, ok := errors.AsType[*uia.LimitError](err); ok {
			fmt.Println("wait for", spent.RetryAfter.Round(time.Minute))
			return
		} else if err != nil {
			panic(err)
		}
		right := password == "correct"
		settle(!right)
		fmt.Println(password, right)
	}
	client := netip.MustParseAddr("192.0.2.1")
	login(client, "correct")
	login(client, "wrong")
	login(client, "wrong")
	login(client, "correct")
	// Output:
	// correct true
	// wrong false
	// wrong false
	// wait for 1m0s
}
