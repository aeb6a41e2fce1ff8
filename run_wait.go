package uia

import (
	"context"
	"errors"
	"time"

	"github.com/matrix-uia/uia/internal/waiting"
)

// maxWait is how long a final request waits for another one of its session.
const maxWait = 30 * time.Second

// await returns when the record of a running session may have changed, or its lease has
// ended, with the record as it is then.
func (v *visit) await(ctx context.Context, timeout *time.Timer) error {
	revision := v.rec.Revision
	left := func() time.Duration { return v.rec.LeaseEnd.Sub(v.e.now()) }
	err := v.e.runs.Wait(ctx, v.s.Key, timeout.C, left, func() (bool, error) {
		err := v.loadRecord(ctx)
		return v.rec.Revision != revision || left() <= 0, err
	})
	if errors.Is(err, waiting.ErrTimeout) {
		return errBusy
	}
	return err
}
