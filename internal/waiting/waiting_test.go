package waiting_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/matrix-uia/uia/internal/waiting"
)

func hour() time.Duration { return time.Hour }

func TestWaitForARunInThisProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var runs waiting.Runs
		var looks atomic.Int64
		leave := runs.Enter("a")
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				assert.NoError(t, runs.Wait(t.Context(), "a", nil, hour, func() (bool, error) {
					looks.Add(1)
					return false, nil // the run has ended, whatever came of it
				}))
			})
		}
		<-time.After(time.Minute)
		assert.Zero(t, looks.Load(), "nobody asks the store while the run is here")
		leave()
		wg.Wait()
		assert.EqualValues(t, 8, looks.Load())
	})
}

func TestOneRequestWatchesARunElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var runs waiting.Runs
		var looks atomic.Int64
		begun := time.Now()
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				assert.NoError(t, runs.Wait(t.Context(), "a", nil, hour, func() (bool, error) {
					looks.Add(1)
					return time.Since(begun) >= 10*time.Second, nil
				}))
			})
		}
		wg.Wait()
		assert.Less(t, looks.Load(), int64(40), "one asks twice a second, and each of the others once")
		assert.GreaterOrEqual(t, looks.Load(), int64(20))
	})
}

func TestWaitEnds(t *testing.T) {
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		left  time.Duration
		look  func() (bool, error)
		after time.Duration
		want  error
	}{
		"at the first look":            {time.Hour, func() (bool, error) { return true, nil }, 50 * time.Millisecond, nil},
		"when the lease ends":          {20 * time.Millisecond, func() (bool, error) { return true, nil }, 20 * time.Millisecond, nil},
		"when the lease has ended":     {-time.Second, func() (bool, error) { return true, nil }, time.Millisecond, nil},
		"when the store fails":         {time.Hour, func() (bool, error) { return false, broken }, 50 * time.Millisecond, broken},
		"after the timeout":            {time.Hour, func() (bool, error) { return false, nil }, 30 * time.Second, waiting.ErrTimeout},
		"after the timeout, elsewhere": {time.Hour, nil, 30 * time.Second, waiting.ErrTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var runs waiting.Runs
				if c.look == nil {
					defer runs.Enter("a")()
				}
				begun := time.Now()
				err := runs.Wait(t.Context(), "a", time.After(30*time.Second), func() time.Duration { return c.left }, c.look)
				assert.ErrorIs(t, err, c.want)
				assert.Equal(t, c.after, time.Since(begun))
			})
		})
	}
}

func TestWhoHangsUpDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var runs waiting.Runs
		for _, enter := range []bool{false, true} {
			if enter {
				defer runs.Enter("a")()
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			err := runs.Wait(ctx, "a", nil, hour, func() (bool, error) { return false, nil })
			assert.ErrorIs(t, err, context.DeadlineExceeded)
			cancel()
		}
	})
}

// TestARunThatWasTakenOver leaves without ending the run that has taken over.
func TestARunThatWasTakenOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var runs waiting.Runs
		first, second := runs.Enter("a"), runs.Enter("a")
		first()
		waits := make(chan error, 1)
		go func() { waits <- runs.Wait(t.Context(), "a", nil, hour, func() (bool, error) { return true, nil }) }()
		synctest.Wait()
		assert.Empty(t, waits)
		second()
		assert.NoError(t, <-waits)
	})
}
