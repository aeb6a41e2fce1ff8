package mistake

import (
	"errors"
	"fmt"
	"reflect"
)

// List collects mistakes.
type List []error

// Addf adds a mistake.
func (l *List) Addf(format string, args ...any) {
	*l = append(*l, fmt.Errorf(format, args...))
}

// Add adds err with where it was found in front; see [In]. A nil error adds nothing.
func (l *List) Add(where string, err error) {
	if err != nil {
		*l = append(*l, In(where, err))
	}
}

// Err joins the mistakes; it is nil if there are none.
func (l List) Err() error { return errors.Join(l...) }

// IsNil reports whether v is nil, or a nil pointer in an interface, whose methods would
// panic.
func IsNil(v any) bool {
	if v == nil {
		return true
	}
	r := reflect.ValueOf(v)
	return r.Kind() == reflect.Pointer && r.IsNil()
}
