package simtest

import (
	"fmt"
	"strconv"
	"strings"
)

// Verdict is what becomes of the call at which an actor stands.
type Verdict byte

// The verdicts. All but Run are faults.
const (
	Run        Verdict = iota
	FailBefore         // it fails
	FailAfter          // it takes effect, and its answer is lost
	KillBefore         // its process dies first
	KillAfter          // its process dies after it took effect
	GiveUp             // its transaction is rolled back and run again
)

var verdicts = [...]string{"", "!", "?", "x", "X", "~"}

func (v Verdict) String() string { return verdicts[v] }

// Choice is what a scheduler does in one step.
type Choice struct {
	// Kind is 'r' for an actor that goes on, and otherwise the letter that stands
	// for it in a schedule: 'w', 'T', '+', '-', 'g'.
	Kind    byte
	Who     int8 // the actor, or the process
	Verdict Verdict
}

// Go is the choice of an actor that goes on.
func Go(actor int) Choice { return Choice{Kind: 'r', Who: int8(actor)} }

func (c Choice) String() string {
	switch c.Kind {
	case 'r':
		return fmt.Sprintf("%d%v", c.Who, c.Verdict)
	case 'w', 'T':
		return string(c.Kind)
	}
	return fmt.Sprintf("%c%d", c.Kind, c.Who)
}

// Schedule is what the scheduler did, step by step.
type Schedule []Choice

func (s Schedule) String() string {
	parts := make([]string, len(s))
	for i, c := range s {
		parts[i] = c.String()
	}
	return strings.Join(parts, " ")
}

// ParseSchedule reads what Schedule.String writes.
func ParseSchedule(s string) (Schedule, error) {
	var out Schedule
	for word := range strings.FieldsSeq(s) {
		c := Choice{Kind: word[0]}
		number := word
		switch c.Kind {
		case 'w', 'T':
			out = append(out, c)
			continue
		case '+', '-', 'g':
			number = word[1:]
		default:
			c.Kind = 'r'
			if v := strings.IndexByte("!?xX~", word[len(word)-1]); v >= 0 {
				c.Verdict, number = Verdict(v+1), word[:len(word)-1]
			}
		}
		n, err := strconv.ParseInt(number, 10, 8)
		if err != nil {
			return nil, fmt.Errorf("simtest: no choice: %q", word)
		}
		c.Who = int8(n)
		out = append(out, c)
	}
	return out, nil
}

// Budget bounds how many of each kind a schedule has: preemptions of an actor that
// could have gone on, faults, and clock events.
type Budget struct{ Preemptions, Faults, Clocks int8 }

func (b Budget) String() string {
	return fmt.Sprintf("P%dF%dC%d", b.Preemptions, b.Faults, b.Clocks)
}

// ParseBudget reads what Budget.String writes.
func ParseBudget(s string) (b Budget, err error) {
	_, err = fmt.Sscanf(s, "P%dF%dC%d", &b.Preemptions, &b.Faults, &b.Clocks)
	return b, err
}

func (b Budget) minus(o Budget) (Budget, bool) {
	b.Preemptions -= o.Preemptions
	b.Faults -= o.Faults
	b.Clocks -= o.Clocks
	return b, b.Preemptions >= 0 && b.Faults >= 0 && b.Clocks >= 0
}

func (b Budget) covers(o Budget) bool { _, ok := b.minus(o); return ok }

// Option is a choice that is possible, and what it takes from the budget.
type Option struct {
	Choice
	Cost Budget
}
