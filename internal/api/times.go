package api

import (
	"time"
)

// maxTime is the end of the year 9999. If one token expires later, tools that turn the
// number into a date fail on the whole list.
const maxTime = 253_402_300_799_999

// Milliseconds is null for the zero time.
func Milliseconds(t time.Time) *int64 {
	if t.IsZero() {
		return nil
	}
	return new(min(t.UnixMilli(), maxTime))
}

// Expiry returns the time, zero for nil. One that has passed is refused, and so is one
// that tools cannot show.
func Expiry(n *int64, now time.Time) (time.Time, error) {
	if n == nil {
		return time.Time{}, nil
	}
	t := time.UnixMilli(*n).UTC()
	switch {
	case !now.Before(t) && now.Before(time.Unix(*n, 0)):
		return time.Time{}, Invalid("expiry_time is in milliseconds, and this looks like seconds")
	case !now.Before(t):
		return time.Time{}, Invalid("expiry_time, which is in milliseconds since 1970, must not be in the past")
	case *n > maxTime:
		return time.Time{}, Invalid("expiry_time must be in the year 9999 at the latest")
	}
	return t, nil
}
