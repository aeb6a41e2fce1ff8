package uia

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// Flow is the auth types of one flow, in the order in which a client completes
// them.
type Flow []string

// checkFlows returns every mistake in a set of flows.
func (e *Engine) checkFlows(flows []Flow, anyOrder bool) error {
	var mistakes []error
	for i, f := range flows {
		if len(f) == 0 {
			mistakes = append(mistakes, fmt.Errorf("flow %d is empty", i))
		}
		for j, typ := range f {
			if e.stages[typ] == nil {
				mistakes = append(mistakes, fmt.Errorf("flow %v names the stage %q, which is not registered", f, typ))
			}
			if slices.Contains(f[:j], typ) {
				mistakes = append(mistakes, fmt.Errorf("flow %v has the stage %q twice", f, typ))
			}
		}
		for j, other := range flows {
			switch {
			case i == j || len(f) > len(other) || len(f) == 0:
			case len(f) == len(other) && j < i:
			case len(f) == len(other) && begins(other, f, anyOrder):
				mistakes = append(mistakes, fmt.Errorf("flow %v is there twice", f))
			case begins(other, f, anyOrder):
				mistakes = append(mistakes, fmt.Errorf("flow %v is the beginning of flow %v, which could never be completed: append m.login.dummy to it", f, other))
			}
		}
	}
	return errors.Join(mistakes...)
}

// begins reports whether a client that has completed these stages may be on its
// way through the flow.
func begins(f Flow, completed []string, anyOrder bool) bool {
	if len(completed) > len(f) {
		return false
	}
	if !anyOrder {
		return slices.Equal(f[:len(completed)], completed)
	}
	for _, typ := range completed {
		if !slices.Contains(f, typ) {
			return false
		}
	}
	return true
}

// flowDone reports whether one of the flows has been completed.
func flowDone(flows []Flow, completed []string, anyOrder bool) bool {
	return slices.ContainsFunc(flows, func(f Flow) bool {
		return len(f) == len(completed) && begins(f, completed, anyOrder)
	})
}

// isNext reports whether the stage may be attempted after the completed ones.
func isNext(flows []Flow, completed []string, anyOrder bool, typ string) bool {
	return slices.ContainsFunc(flows, func(f Flow) bool {
		if len(completed) >= len(f) || !begins(f, completed, anyOrder) {
			return false
		}
		if anyOrder {
			return slices.Contains(f, typ) && !slices.Contains(completed, typ)
		}
		return f[len(completed)] == typ
	})
}

// nextStages returns the stages that may be attempted after the completed ones, each
// once, in the order of the flows.
func nextStages(flows []Flow, completed []string, anyOrder bool) (out []string) {
	for _, f := range flows {
		for _, typ := range f {
			if !slices.Contains(out, typ) && isNext(flows, completed, anyOrder, typ) {
				out = append(out, typ)
			}
		}
	}
	return out
}

func flowsDigest(flows []Flow, anyOrder bool) []byte {
	encoded, _ := json.Marshal(flows) // strings always encode
	if anyOrder {
		encoded = append(encoded, '*')
	}
	sum := sha256.Sum256(encoded)
	return sum[:16]
}

// stagesOf returns each registered stage that the flows name, once.
func (e *Engine) stagesOf(flows []Flow) (out []*stage) {
	for _, f := range flows {
		for _, typ := range f {
			if s := e.stages[typ]; s != nil && !slices.Contains(out, s) {
				out = append(out, s)
			}
		}
	}
	return out
}
