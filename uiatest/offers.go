package uiatest

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// offersArea is the area of the cases that are about whether the homeserver offers
// something at all. They are named after the feature.
const offersArea = "offers"

// asking is whether the homeserver offers a feature, asked when a case first needs it.
type asking struct {
	begun  bool          // somebody asks, or has asked; guarded by runner.mu
	done   chan struct{} // closed when the answer is there
	report Report        // of the case about the feature, if there is one
	why    string        // why the homeserver does not offer it; "" if it does
}

// asking returns what is known about a feature. First is true for the one who has to ask.
func (r *runner) asking(feature string) (a *asking, first bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a = r.asked[feature]
	if a == nil {
		a = &asking{done: make(chan struct{})}
		r.asked[feature] = a
	}
	first = !a.begun
	a.begun = true
	return a, first
}

// lacks returns why the homeserver does not offer a feature; "" if it does, and if
// neither a case nor a probe is about it.
func (r *runner) lacks(ctx context.Context, feature string) string {
	return r.offered(ctx, feature).why
}

// offered finds out about a feature, or waits until another case has found out.
func (r *runner) offered(ctx context.Context, feature string) *asking {
	a, first := r.asking(feature)
	if first {
		defer close(a.done)
		r.find(ctx, feature, a)
		return a
	}
	select {
	case <-a.done:
		return a
	default:
	}
	if r.waiting != nil {
		defer r.waiting()()
	}
	select {
	case <-a.done:
		return a
	case <-ctx.Done():
		return &asking{why: "the run was ended"}
	}
}

// find finds out about a feature: by the case about it, or else by the probe for it.
func (r *runner) find(ctx context.Context, feature string, a *asking) {
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
	c := Case{tokens: probe.Tokens, accounts: probe.Accounts, steps: probe.Steps}
	if a.why = r.cannotMake(&c); a.why != "" {
		return
	}
	from := r.client()
	defer from.close()
	if err := r.play(ctx, &c, newScope(from)); err != nil {
		a.why = fmt.Sprintf("the homeserver does not offer %s (%s): %v", feature, probe.Says, err)
	}
}

// feature is what a case of the area "offers" is about.
func (c *Case) feature() string { return strings.TrimPrefix(c.Name, offersArea+"/") }

// neededClosed reports whether the case asks for something that cases about closed
// registration need.
func (r *runner) neededClosed(c *Case) bool {
	return c.Area == offersArea && slices.ContainsFunc(r.suite.cases, func(other Case) bool {
		return other.needs("closed") && other.needs(c.feature())
	})
}

// lacking returns the reports of the cases of the area "offers" that have failed, and are
// not among the cases of the run.
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
