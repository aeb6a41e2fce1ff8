// Package observe calls the observers of a host so that a mistake in one does no harm.
package observe

import (
	"context"
	"log/slog"
)

// Safely returns an observer that passes events on, and logs a panic instead of passing
// it back: the caller must not fail because an event could not be counted. A nil observe
// ignores every event.
func Safely[E any](observe func(context.Context, E), log *slog.Logger) func(context.Context, E) {
	if observe == nil {
		return func(context.Context, E) {}
	}
	return func(ctx context.Context, ev E) {
		defer func() {
			if p := recover(); p != nil {
				log.ErrorContext(ctx, "uia: the observer panicked", "event", ev, "panic", p)
			}
		}()
		observe(ctx, ev)
	}
}
