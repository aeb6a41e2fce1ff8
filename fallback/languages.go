package fallback

import (
	"slices"
	"strings"
)

// languages returns the languages of an Accept-Language header, most preferred
// first.
func languages(header string) []string {
	type weighted struct {
		tag string
		q   string
	}
	var list []weighted
	for part := range strings.SplitSeq(header, ",") {
		tag, q, _ := strings.Cut(strings.TrimSpace(part), ";")
		q = strings.TrimPrefix(strings.ReplaceAll(q, " ", ""), "q=")
		if tag = strings.TrimSpace(tag); tag == "" || tag == "*" || len(list) == 16 {
			continue
		}
		if q == "" {
			q = "1"
		}
		list = append(list, weighted{tag, q})
	}
	// Weights have the forms 0.xyz and 1.000: they sort as text.
	slices.SortStableFunc(list, func(a, b weighted) int { return strings.Compare(b.q, a.q) })
	out := make([]string, len(list))
	for i, w := range list {
		out[i] = w.tag
	}
	return out
}
