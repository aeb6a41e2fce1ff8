package wire

import (
	"fmt"
	"time"
)

// InWords says how long somebody has to wait, rounded up: "1 second", "3 minutes".
func InWords(d time.Duration) string {
	count := func(n time.Duration, unit string) string {
		if n == 1 {
			return "1 " + unit
		}
		return fmt.Sprintf("%d %ss", n, unit)
	}
	if d > 2*time.Minute {
		return count((d+time.Minute-1)/time.Minute, "minute")
	}
	return count((d+time.Second-1)/time.Second, "second")
}
