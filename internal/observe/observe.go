// Package observe calls the observers of a host, which must not do any harm.
package observe

import (
	"context"
	"log/slog"
)

// Safely returns an observer that passes events on, and logs a panic instead of
// passing it back: what has happened must not look undone because it could not be
// counted. A nil observe ignores every event.
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
