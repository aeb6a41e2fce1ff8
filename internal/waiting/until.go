package waiting

import (
	"context"
	"time"
)

const (
	minPause = 50 * time.Millisecond
	maxPause = 500 * time.Millisecond
)

// Until calls look at growing intervals, and after left at the latest, until it returns
// true or an error. It does not call look at once. A nil left limits nothing. After the
// timeout Until returns ErrTimeout.
func Until(ctx context.Context, timeout <-chan time.Time, left func() time.Duration, look func() (bool, error)) error {
	for pause := minPause; ; pause = min(2*pause, maxPause) {
		next := pause
		if left != nil {
			next = min(pause, max(left(), time.Millisecond))
		}
		again := time.NewTimer(next)
		select {
		case <-again.C:
		case <-timeout:
			again.Stop()
			return ErrTimeout
		case <-ctx.Done():
			again.Stop()
			return ctx.Err()
		}
		if done, err := look(); done || err != nil {
			return err
		}
	}
}
