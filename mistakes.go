package uia

import "fmt"

// mistakes collects what is wrong with a configuration.
type mistakes []error

func (m *mistakes) addf(format string, args ...any) {
	*m = append(*m, fmt.Errorf("uia: "+format, args...))
}

// add adds err, or each of the errors that it joins, with where it was found in front.
// Nil adds nothing.
func (m *mistakes) add(where string, err error) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, err := range joined.Unwrap() {
			m.add(where, err)
		}
	} else if err != nil {
		m.addf("%s%w", where, err)
	}
}
