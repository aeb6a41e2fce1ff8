// Package flow knows what completed stages mean for a list of flows. A flow is the auth
// types of its stages, in the order in which a client completes them, unless anyOrder
// says that their order does not matter.
package flow

import (
	"crypto/sha256"
	"encoding/json"
	"slices"
)

// begins reports whether a client that has completed these stages may be on its
// way through the flow.
func begins[F ~[]string](f F, completed []string, anyOrder bool) bool {
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

// Done reports whether one of the flows has been completed.
func Done[F ~[]string](flows []F, completed []string, anyOrder bool) bool {
	return slices.ContainsFunc(flows, func(f F) bool {
		return len(f) == len(completed) && begins(f, completed, anyOrder)
	})
}

// Awaits reports whether the stage may be attempted after the completed ones.
func Awaits[F ~[]string](flows []F, completed []string, anyOrder bool, typ string) bool {
	return slices.ContainsFunc(flows, func(f F) bool {
		if len(completed) >= len(f) || !begins(f, completed, anyOrder) {
			return false
		}
		if anyOrder {
			return slices.Contains(f, typ) && !slices.Contains(completed, typ)
		}
		return f[len(completed)] == typ
	})
}

// Next returns the stages that may be attempted after the completed ones, each once, in
// the order of the flows.
func Next[F ~[]string](flows []F, completed []string, anyOrder bool) (out []string) {
	for _, f := range flows {
		for _, typ := range f {
			if !slices.Contains(out, typ) && Awaits(flows, completed, anyOrder, typ) {
				out = append(out, typ)
			}
		}
	}
	return out
}

// Types returns the auth types that the flows name, each once.
func Types[F ~[]string](flows []F) (out []string) {
	for _, f := range flows {
		for _, typ := range f {
			if !slices.Contains(out, typ) {
				out = append(out, typ)
			}
		}
	}
	return out
}

// Digest stands for the flows in what is sealed.
func Digest[F ~[]string](flows []F, anyOrder bool) []byte {
	encoded, _ := json.Marshal(flows) // strings always encode
	if anyOrder {
		encoded = append(encoded, '*')
	}
	sum := sha256.Sum256(encoded)
	return sum[:16]
}

// Encode returns the member flows of a challenge.
func Encode[F ~[]string](flows []F) []byte {
	type stages struct {
		Stages F `json:"stages"`
	}
	list := make([]stages, len(flows))
	for i, f := range flows {
		list[i].Stages = f
	}
	out, _ := json.Marshal(list) // strings always encode
	return out
}
