package uia

import (
	"fmt"
	"reflect"

	"github.com/matrix-uia/uia/internal/mistake"
)

// mistakes collects what is wrong with a configuration.
type mistakes []error

func (m *mistakes) addf(format string, args ...any) {
	*m = append(*m, fmt.Errorf("uia: "+format, args...))
}

// add adds err, or each of the errors that it joins, with where it was found in front.
// Nil adds nothing.
func (m *mistakes) add(where string, err error) {
	if err != nil {
		*m = append(*m, mistake.In("uia: "+where, err))
	}
}

// isNil reports whether v is nil, or a nil pointer in an interface, whose methods would
// panic.
func isNil(v any) bool {
	if v == nil {
		return true
	}
	r := reflect.ValueOf(v)
	return r.Kind() == reflect.Pointer && r.IsNil()
}
