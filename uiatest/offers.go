package uiatest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// offersArea is the area of the cases that are about whether the homeserver offers
// something at all. They are named after the feature.
const offersArea = "offers"

// asking is whether the homeserver offers a feature, asked when a case first needs it.
type asking struct {
	once   sync.Once
	report Report // of the case about it, if there is one
	why    string // it is not offered; "" if it is
}

// asking is what is known about a feature.
func (r *runner) asking(feature string) *asking {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.asked[feature] == nil {
		r.asked[feature] = new(asking)
	}
	return r.asked[feature]
}

// lacks returns why the homeserver does not offer a feature; "" if it does, and if
// neither a case nor a probe is about it.
func (r *runner) lacks(ctx context.Context, feature string) string {
	a := r.asking(feature)
	a.once.Do(func() {
		if i := slices.IndexFunc(r.suite.cases, func(c Case) bool { return c.Name == offersArea+"/"+feature }); i >= 0 {
			a.report = r.measure(ctx, &r.suite.cases[i])
			if a.report.Outcome == Failed {
				leave := "-lacks " + feature + " leaves it out"
				if feature == "admin" {
					leave = "it is left out without an admin token"
				}
				a.why = fmt.Sprintf("the homeserver does not offer %s, as %s says; %s", feature, a.report.Name, leave)
			}
			return
		}
		probe, ok := r.suite.probes[feature]
		if !ok {
			return
		}
		c := Case{tokens: probe.Tokens, steps: probe.Steps}
		if a.why = r.cannotMake(&c); a.why != "" {
			return
		}
		if err := r.play(ctx, &c, newScope(r.from)); err != nil {
			a.why = fmt.Sprintf("the homeserver does not offer %s (%s): %v", feature, probe.Says, err)
		}
	})
	return a.why
}

// feature is what a case of the area "offers" is about.
func (c *Case) feature() string { return strings.TrimPrefix(c.Name, offersArea+"/") }

// ofUse reports whether the case is about what a homeserver offers that cases about closed
// registration need.
func (r *runner) ofUse(c *Case) bool {
	return c.Area == offersArea && slices.ContainsFunc(r.suite.cases, func(other Case) bool {
		return other.needs("closed") && other.needs(c.feature())
	})
}

// lacking returns what cases have found missing that are not among those of the run.
func (r *runner) lacking(run []Case) (out []Report) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.suite.cases {
		a := r.asked[c.feature()]
		if c.Area != offersArea || a == nil || a.report.Outcome != Failed {
			continue
		}
		if !slices.ContainsFunc(run, func(other Case) bool { return other.Name == c.Name }) {
			out = append(out, a.report)
		}
	}
	return out
}
