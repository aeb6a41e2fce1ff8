// Package mistake words what is wrong with a configuration.
package mistake

import (
	"errors"
	"fmt"
)

// In puts where it was found in front of err, or in front of each of the errors that it
// joins: every line then says where the mistake is. A nil error stays nil.
func In(where string, err error) error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		if err == nil {
			return nil
		}
		return fmt.Errorf("%s%w", where, err)
	}
	var all []error
	for _, err := range joined.Unwrap() {
		all = append(all, In(where, err))
	}
	return errors.Join(all...)
}

// Required reports a setting that is missing.
func Required(name string, given bool) error {
	if given {
		return nil
	}
	return errors.New(name + " is required")
}
