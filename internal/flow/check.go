package flow

import (
	"errors"
	"fmt"
	"slices"
)

// Check returns every mistake in a list of flows. known reports whether there is a
// stage of an auth type.
func Check[F ~[]string](flows []F, anyOrder bool, known func(string) bool) error {
	var mistakes []error
	for i, f := range flows {
		if len(f) == 0 {
			mistakes = append(mistakes, fmt.Errorf("flow %d is empty", i))
			continue
		}
		for j, typ := range f {
			if !known(typ) {
				mistakes = append(mistakes, fmt.Errorf("flow %v names the stage %q, which is not registered", f, typ))
			}
			if slices.Contains(f[:j], typ) {
				mistakes = append(mistakes, fmt.Errorf("flow %v has the stage %q twice", f, typ))
			}
		}
		for j, other := range flows {
			mistakes = append(mistakes, compare(f, other, j-i, anyOrder))
		}
	}
	return errors.Join(mistakes...)
}

// compare returns what is wrong with two flows together. distance is how many places
// after f the other is: of two flows that are the same the first one is reported.
func compare[F ~[]string](f, other F, distance int, anyOrder bool) error {
	switch same := len(f) == len(other); {
	case distance == 0, same && distance < 0, !begins(other, f, anyOrder):
		return nil
	case same:
		return fmt.Errorf("flow %v is there twice", f)
	default:
		return fmt.Errorf("flow %v is the beginning of flow %v, which could never be completed: append m.login.dummy to it", f, other)
	}
}
