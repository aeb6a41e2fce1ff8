package simtest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing/synctest"
	"time"

	"github.com/matrix-uia/uia"
)

// enabled returns the actors that can go on, and whether one waits for a timer.
func (w *world) enabled() (on []*actor, waiting, stuck bool) {
	for _, a := range w.actors {
		switch {
		case a.done || !w.alive[a.proc]:
		case a.at == nil:
			waiting = true
		case w.blocked(a):
			stuck = true
		case a.twin != nil && !a.started() && !a.twin.started():
		default:
			on = append(on, a)
		}
	}
	// The one that went on last comes first.
	if i := slices.Index(on, w.cur); i > 0 {
		on = slices.Insert(slices.Delete(on, i, i+1), 0, w.cur)
	}
	return on, waiting, stuck
}

// options returns the ways to go on; none when it is over.
func (w *world) options() (out []Option) {
	on, waiting, stuck := w.enabled()
	if len(on) == 0 {
		return w.lastOptions(waiting, stuck)
	}
	add := func(c Choice, cost Budget) { out = append(out, Option{c, cost}) }
	var other Budget // what it costs not to go on with the one that went on last
	if on[0] == w.cur {
		other.Preemptions = 1
	}
	cost := func(i int, faults int8) Budget {
		b := Budget{Faults: faults}
		if i > 0 {
			b.Preemptions = other.Preemptions
		}
		return b
	}
	for i, a := range on {
		add(Go(a.id), cost(i, 0))
	}
	for i, a := range on {
		for _, v := range w.faultsOf(a) {
			add(Choice{'r', int8(a.id), v}, cost(i, 1))
		}
	}
	for _, g := range w.ghosts {
		add(Choice{Kind: 'g', Who: int8(g.proc)}, other)
	}
	if waiting {
		add(Choice{Kind: 'w'}, Budget{Preemptions: 1})
	}
	return append(out, w.clockOptions()...)
}

// lastOptions returns the ways to go on where no actor can.
func (w *world) lastOptions(waiting, stuck bool) (out []Option) {
	if stuck && len(w.ghosts) > 0 {
		out = append(out, Option{Choice{Kind: 'g', Who: int8(w.ghosts[0].proc)}, Budget{}})
	}
	if waiting {
		out = append(out, Option{Choice{Kind: 'w'}, Budget{}})
	}
	if stuck && len(out) == 0 {
		w.wrong("everybody waits for a lock")
	}
	return out
}

// clockOptions returns what can happen to the clocks.
func (w *world) clockOptions() []Option {
	out := []Option{{Choice{Kind: 'T'}, Budget{Clocks: 1}}}
	for p := range w.sc.Processes {
		if w.sc.Steps && w.alive[p] {
			out = append(out,
				Option{Choice{Kind: '+', Who: int8(p)}, Budget{Clocks: 1}},
				Option{Choice{Kind: '-', Who: int8(p)}, Budget{Clocks: 1}})
		}
	}
	return out
}

// faultsOf returns what can go wrong with the call at which an actor stands.
func (w *world) faultsOf(a *actor) []Verdict {
	switch {
	case !a.started():
		return nil
	case !a.at.write:
		return []Verdict{FailBefore}
	case a.tx != nil:
		return []Verdict{FailBefore, FailAfter, KillBefore, KillAfter, GiveUp}
	}
	return []Verdict{FailBefore, FailAfter, KillBefore, KillAfter}
}

func (w *world) apply(c Choice) {
	w.turns.Add(1)
	switch c.Kind {
	case 'r':
		a := w.actors[c.Who]
		w.cur = a
		w.log("%-4s %s (process %d): %s %s", c, a.name, a.proc, a.at.name, a.at.arg)
		if c.Verdict != Run {
			w.faults++
		}
		if c.Verdict == FailAfter && a.tx == nil && strings.Contains(strings.ToLower(a.at.name), "save") {
			w.lostSaves++
		}
		a.verdict <- c.Verdict
	case 'w':
		on, _, _ := w.enabled()
		if len(on) > 0 {
			w.waits++ // by choice
		}
		select {
		case <-w.events:
		default:
		}
		before := time.Now()
		w.turns.Add(1)
		select {
		case <-w.events:
		case <-time.After(time.Minute): // longer than anybody waits
			if len(on) == 0 {
				w.wrong("an actor waits for ever")
			}
		}
		w.log("w    time passes: %v", time.Since(before))
	case 'T':
		w.clocks++
		w.stalls++
		w.log("T    everything stalls for %v", stall)
		time.Sleep(stall)
	case '+', '-':
		w.clocks++
		step := skew
		if c.Kind == '-' {
			step = -skew
		}
		w.skew[c.Who] += step
		w.log("%-4s the clock of process %d steps by %v", c, c.Who, step)
	case 'g':
		i := slices.IndexFunc(w.ghosts, func(g ghost) bool { return g.proc == int(c.Who) })
		w.ghosts[i].tx.end()
		w.ghosts = slices.Delete(w.ghosts, i, i+1)
		w.log("%-4s the database notices that process %d is dead", c, c.Who)
	}
	synctest.Wait()
}

// polling reports whether the actor that went on last is about to read a record: it may
// be doing nothing else.
func (w *world) polling() bool { return w.cur.at != nil && w.cur.at.name == loadPoint }

// digest returns a digest of everything on which the rest depends. Without the time, it
// leaves out how long the actor that went on last has polled.
func (w *world) digest(timed bool) uint64 {
	var b strings.Builder
	w.dump(&b)
	for _, a := range w.actors {
		h := a.history
		if !timed && a == w.cur {
			h = 0
		}
		fmt.Fprint(&b, "|", h, a.done, a.runs)
		if a.at != nil {
			b.WriteString(a.at.name)
		}
		if a.tx != nil {
			fmt.Fprint(&b, "t", a.tx.broken, a.tx.again)
		}
	}
	fmt.Fprint(&b, w.alive, w.skew, len(w.ghosts))
	if timed {
		b.WriteString(w.since().String())
	}
	if w.cur != nil {
		b.WriteByte(byte(w.cur.id))
	}
	return mix(0, b.String())
}

// dump writes what is committed.
func (w *world) dump(b *strings.Builder) {
	number := func(n int64) { b.WriteString(strconv.FormatInt(n, 36)); b.WriteByte(' ') }
	use := func(u uia.Use) {
		b.WriteString(u.Token)
		b.WriteString(u.Session)
		number(int64(u.State))
		number(u.Run)
		number(u.Until.UnixMilli())
		number(u.Changed.UnixMilli())
		b.WriteString(u.UserID)
	}
	for _, t := range w.sc.Tokens {
		tok, err := w.db.Token(bg, t.Value, w.t0)
		fmt.Fprint(b, t.Value, tok.Revoked, err)
		if tok.UsesAllowed != nil {
			number(*tok.UsesAllowed)
		}
		for _, u := range w.db.allUses(t.Value) {
			use(u)
		}
	}
	for _, k := range w.sc.begin.keys {
		if r, err := w.db.LoadSession(bg, k, w.t0); err == nil {
			b.WriteString(r.Owner)
			number(r.Revision)
			number(int64(r.State))
			number(r.Run)
			number(r.LeaseEnd.UnixMilli())
			number(r.Expires.UnixMilli())
			b.Write(r.Data)
		}
		user, there := w.db.byKey[k]
		fmt.Fprint(b, user, there)
	}
}
