package uiatest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// Options are the options of [Run]. Nil, and a zero field, mean the default.
type Options struct {
	// Match selects cases by name. Nil selects all.
	Match *regexp.Regexp
	// Levels selects cases by level. None selects all.
	Levels []Level
	// Parallel is how many cases run side by side, those not counted that wait because
	// the homeserver has asked them to. Zero means one.
	Parallel int
	// Shuffle, if not zero, brings the cases into an order that it determines. Those of
	// the area "limits" come last in any case.
	Shuffle uint64
	// Guesses is how many wrong guesses each way to guess gets until it has to be limited:
	// the token stage, the fallback page, the validity endpoint and the password stage.
	// Zero means 50. All of them come from one client.
	Guesses int
	// Rate is how many requests are sent per second at most, races excepted, in which
	// up to eight go out together. Zero means no bound for a Handler, 20 for a URL.
	Rate float64
	// Progress is called after each case, one call at a time.
	Progress func(done, total int, r Report)
}

// Outcome is how a case ended.
type Outcome string

// The outcomes of a case.
const (
	Passed        Outcome = "passed"
	Failed        Outcome = "failed"
	NotApplicable Outcome = "not applicable"
)

// Report is what became of one case.
type Report struct {
	Case
	Outcome Outcome `json:"outcome"`
	// Reason is why the case is not applicable.
	Reason string `json:"reason,omitempty"`
	// Problems are what was expected of the last answer and is not so.
	Problems []string `json:"problems,omitempty"`
	// Exchanges are the requests that were sent and their answers, of a case that failed.
	Exchanges []Exchange    `json:"exchanges,omitempty"`
	Took      time.Duration `json:"took_ns"`

	again func() error // looks once more whether there is a limit; may be nil
}

// Select returns the cases that the options select.
func (o *Options) Select() []Case {
	return slices.DeleteFunc(Cases(), func(c Case) bool {
		return o.Match != nil && !o.Match.MatchString(c.Name) || len(o.Levels) > 0 && !slices.Contains(o.Levels, c.Level)
	})
}

// Run runs the cases and reports on each, in the order of [Cases]; what the homeserver
// turns out not to offer comes before them, if the options do not select it. The error says
// that the homeserver could not be measured, or not to the end: it does not answer, or
// not as a homeserver does, it is not as s says, which is a [*SetupError], or ctx has
// ended. A homeserver that fails is no error.
func Run(ctx context.Context, s Server, opts *Options) ([]Report, error) {
	if opts == nil {
		opts = &Options{}
	}
	r, err := newRunner(ctx, s, opts)
	if err != nil {
		return nil, err
	}
	defer r.close()
	cases := opts.Select()
	if err := cmp.Or(r.canRegister(cases), r.enoughTokens(cases)); err != nil {
		return nil, err
	}
	reports := make([]Report, len(cases))
	var first, last []int
	for i, c := range cases {
		if c.Area == limitsArea {
			last = append(last, i)
		} else {
			first = append(first, i)
		}
	}
	if opts.Shuffle != 0 {
		shuffle := rand.New(rand.NewPCG(opts.Shuffle, 0))
		shuffle.Shuffle(len(first), func(i, j int) { first[i], first[j] = first[j], first[i] })
	}
	done := 0
	var mu sync.Mutex
	one := func(i int) {
		report := r.run(ctx, &cases[i])
		mu.Lock()
		defer mu.Unlock()
		reports[i] = report
		done++
		if opts.Progress != nil && r.failure() == nil {
			opts.Progress(done, len(cases), report)
		}
	}
	line := &schedule{parallel: max(opts.Parallel, 1), queue: first, run: one,
		shut: func(i int) bool { return r.heldUp(&cases[i]) }}
	r.waiting = line.wait
	line.play()
	r.waiting = nil
	r.limits(last, reports, one)
	return append(r.lacking(cases), reports...), r.failure()
}

// run runs one case.
func (r *runner) run(ctx context.Context, c *Case) Report {
	if c.Area == offersArea {
		return r.offered(ctx, c.feature()).report
	}
	return r.measure(ctx, c)
}

// measure runs one case, and does not look whether that has been done.
func (r *runner) measure(ctx context.Context, c *Case) (report Report) {
	report = Report{Case: *c, Outcome: NotApplicable}
	if err := r.failure(); err != nil {
		report.Reason = "the run has ended before"
		return report
	}
	if report.Reason = r.missing(ctx, c); report.Reason != "" {
		return report
	}
	if left := r.sender.budget.remaining(); left < c.Guesses {
		report.Reason = fmt.Sprintf("it takes %d failed guesses, and %d are left", c.Guesses, left)
		return report
	}
	begun := time.Now()
	from := r.guesser
	if c.Area != limitsArea {
		from = r.client()
		defer from.close()
	}
	s := newScope(from)
	err := r.play(ctx, c, s)
	report.Took = time.Since(begun)
	var broken *problem
	var inapplicable *inapplicable
	var unlimited *unlimited
	var setup *SetupError
	switch {
	case err == nil:
		report.Outcome = Passed
	case errors.As(err, &unlimited):
		report.Outcome, report.Problems, report.again = Failed, []string{err.Error()}, unlimited.again
	case errors.As(err, &setup):
		r.giveUp(setup)
		report.Reason = "the run was ended"
	case errors.As(err, &broken):
		report.Outcome, report.Problems = Failed, broken.list
	case errors.As(err, &inapplicable):
		report.Reason = inapplicable.reason
	case ctx.Err() != nil:
		r.giveUp(fmt.Errorf("uiatest: the run was ended: %w", context.Cause(ctx)))
		report.Reason = "the run was ended"
	case errors.Is(err, errNoAnswer) && !r.alive(ctx):
		r.giveUp(fmt.Errorf("uiatest: the homeserver has stopped answering: %w", err))
		report.Reason = "the homeserver has stopped answering"
	default:
		report.Outcome, report.Problems = Failed, []string{err.Error()}
	}
	if report.Outcome == Failed {
		if !s.log.blamed() {
			s.log.blame(s.last)
		}
		report.Exchanges = s.log.all
	}
	r.secrets(s).hide(&report)
	return report
}

func (r *runner) play(ctx context.Context, c *Case, s *scope) error {
	r.given(s)
	for name, decl := range c.tokens {
		if r.flow == "D" {
			s.values["token."+name] = ""
			continue
		}
		value, err := r.mint.token(ctx, decl, s)
		if err != nil {
			return err
		}
		s.values["token."+name] = value
	}
	giveBack, err := r.borrow(ctx, c, s)
	if err != nil {
		return err
	}
	before := s.log.count()
	err = r.steps(ctx, c.steps, s)
	giveBack(intact(err, s, before))
	return err
}

// given sets the variables that the operator has given, and the password of the accounts.
func (r *runner) given(s *scope) {
	s.values["admin_token"] = r.server.AdminToken
	s.values["as_token"], s.values["as_prefix"] = r.server.AppServiceToken, r.server.AppServicePrefix
	password := r.password()
	s.values["password"] = password
	s.log.passwords = append(s.log.passwords, password)
}

// endpoints returns the endpoints that a case sends requests to.
func (r *runner) endpoints(c *Case) []string {
	seen := make(map[string]bool)
	var walk func([]step)
	walk = func(steps []step) {
		for _, st := range steps {
			if _, path, ok := strings.Cut(st.Request, " "); ok {
				seen[endpoint(path)] = true
			}
			walk(r.suite.sequences[st.Use])
			if st.Race != nil {
				walk(st.Race.Steps)
			}
		}
	}
	walk(c.steps)
	if _, missing := r.accounts.state(c.wanted()); missing {
		seen[endpoint(registerPath)] = true
	}
	if r.mints(c) {
		seen[endpoint(adminPath)] = true
	}
	return slices.Collect(maps.Keys(seen))
}

// heldUp reports whether a case would have to wait: for a limit of the homeserver, or for
// an account that another case has borrowed.
func (r *runner) heldUp(c *Case) bool {
	wait, _ := r.accounts.state(c.wanted())
	return wait || r.sender.gates.shut(r.endpoints(c))
}

// mints reports whether tokens are made for the case through the administration.
func (r *runner) mints(c *Case) bool {
	return len(c.tokens)+len(c.accounts) > 0 && r.tokens() && r.server.NewToken == nil && r.server.AdminToken != ""
}

// wanted are the accounts that the case borrows.
func (c *Case) wanted() []accountDecl { return slices.Collect(maps.Values(c.accounts)) }
