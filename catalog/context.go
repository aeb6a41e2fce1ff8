package catalog

import "context"

type contextKey struct{}

// NewContext returns a context that carries the language of the user for whom something is
// done: what is sent to them meanwhile, such as a mail, can be in it.
func NewContext(ctx context.Context, l *Language) context.Context {
	return context.WithValue(ctx, contextKey{}, l)
}

// FromContext returns the language that the context carries, and English of [Default]
// if it carries none.
func FromContext(ctx context.Context) *Language {
	if l, ok := ctx.Value(contextKey{}).(*Language); ok {
		return l
	}
	return Default().languages[0]
}
