package simtest

import (
	"slices"
	"strings"
	"time"

	"github.com/matrix-uia/uia"
)

// checkStep checks what must hold at every moment, whatever the clocks show.
func (w *world) checkStep() {
	if n := len(w.db.byName); n > w.allowed {
		w.wrong("there are %d accounts, the tokens allow %d", n, w.allowed)
	}
	for value, n := range w.uses {
		page, err := w.db.ListUses(bg, uia.UseQuery{Token: value})
		if err == nil && len(page.Uses) > n {
			w.wrong("token %s has %d uses of %d", value, len(page.Uses), n)
		}
	}
}

// settle checks what must hold when all is over.
func (w *world) settle() {
	w.log("---- all is over")
	for _, g := range w.ghosts {
		g.tx.end()
	}
	clean := w.faults == 0 && w.clocks == 0 && w.waits == 0
	first := w.checkTold(clean)
	w.checkRepeated(first)
	if clean && !w.sc.Leaks {
		w.checkHolds()
	}
	last := w.sc.Processes
	for range 2 { // what the first makes young, the second decides
		time.Sleep(8 * time.Minute)
		if _, err := w.engines[last].Recover(bg); err != nil {
			w.wrong("Recover: %v", err)
		}
	}
	w.checkStep()
	w.checkBooks()
	for s := range w.sc.Clients {
		if !w.sc.Sweeps { // by a clock that is further ahead than records are kept
			w.checkEnds(s, clean)
		}
	}
	w.checkStep()
	if w.sc.AtEnd != nil {
		w.sc.AtEnd(w)
	}
}

func (w *world) key(session int) string     { return w.sc.begin.keys[session] }
func (w *world) account(session int) string { return w.db.byKey[w.key(session)] }

// checkTold checks what clients were told, and returns the first success of each session.
func (w *world) checkTold(clean bool) map[int]told {
	first := map[int]told{}
	for _, m := range slices.Clone(w.told) {
		switch f, ok := first[m.session]; {
		case m.status != 200:
			if why := w.unjust(m, clean); why != "" {
				w.wrong("%s was told %d %s, but %s", m.actor, m.status, m.text, why)
			}
			continue
		case !ok:
			first[m.session] = m
		case f.text != m.text && !w.unrecorded[w.key(m.session)]:
			w.wrong("of S%d two clients were told %s and %s", m.session, f.text, m.text)
		}
		if clean && m.leg.User != "" && !strings.Contains(m.text, `"@`+m.leg.User+`"`) {
			w.wrong("%s, who wanted %s, was told %s", m.actor, m.leg.User, m.text)
		}
		if w.account(m.session) == "" {
			w.wrong("a client of S%d was told of an account that is not there: %s", m.session, m.text)
		}
	}
	return first
}

// unjust says why a client should not have been told so; "" if it may.
func (w *world) unjust(m told, clean bool) string {
	progress := m.status == 401 && m.code == ""
	switch {
	case m.status >= 500 && w.faults == w.lostSaves && w.clocks+w.waits == 0 && w.skewless():
		return "nothing went wrong but that the answer to a save was lost"
	case !w.sc.Sole || progress:
	case m.code == "M_UNAUTHORIZED" && m.leg.Token != "" && w.skewless():
		return "nobody else wants the token"
	case m.status == 401 && m.code == "M_FORBIDDEN" && w.faults+w.waits+w.stalls == 0:
		return "the result was about to be recorded"
	case clean:
		return "nothing went wrong"
	}
	return ""
}

// skewless reports whether the clocks of all processes show the same.
func (w *world) skewless() bool {
	return !slices.ContainsFunc(w.skew, func(d time.Duration) bool { return d != 0 })
}

// checkRepeated repeats the requests that were told of an account, and asks as a
// stranger who knows no more than the session.
func (w *world) checkRepeated(first map[int]told) {
	last := w.sc.Processes
	for s, f := range first {
		if m := w.request(bg, last, s, Leg{}); m.status == 200 {
			w.wrong("a stranger's poll of S%d is told %s", s, m.text)
		}
		if w.clocks > 0 || len(w.sc.Skew) > 0 || w.unrecorded[w.key(s)] || w.sc.Differ {
			continue
		}
		if m := w.request(bg, last, s, f.leg); m.status != 200 || m.text != f.text {
			w.wrong("repeated, the request that was told %s is told %d %s", f.text, m.status, m.text)
		}
	}
}

// checkHolds checks that each hold is one that its session shows.
func (w *world) checkHolds() {
	last := w.sc.Processes
	for _, tok := range w.sc.Tokens {
		page, _ := w.db.ListUses(bg, uia.UseQuery{Token: tok.Value})
		for _, u := range page.Uses {
			i := slices.Index(w.sc.begin.keys, u.Session)
			if u.State == uia.Spent || i < 0 {
				continue
			}
			s, err := w.engines[last].Session(bg, w.sc.begin.sessions[i])
			switch {
			case err != nil:
				w.wrong("S%d holds a use of %s (state %d): %v", i, tok.Value, u.State, err)
			case u.State == uia.Pinned:
				w.wrong("S%d leaves a use of %s pinned, without any fault", i, tok.Value)
			default:
				r, ok := s.Token()
				if !ok || r.Token != tok.Value && !(w.sc.TwoUses && s.Has(uia.TokenTypeUnstable)) {
					w.wrong("S%d holds a use of %s that it does not show", i, tok.Value)
				}
			}
		}
	}
}

// checkBooks checks that accounts and spent uses are the same, and that nothing is in
// doubt any more.
func (w *world) checkBooks() {
	spent := map[string]string{} // session to user
	for _, tok := range w.sc.Tokens {
		for _, u := range w.db.allUses(tok.Value) {
			w.book(u, spent)
		}
	}
	if pinned, _ := w.db.PinnedUses(bg, time.Now(), 100); len(pinned) > 0 {
		w.wrong("a use of %s stays pinned", w.session(pinned[0].Session))
	}
	for key, user := range w.db.byKey {
		if user != "" && spent[key] != user {
			w.wrong("the account %s of %s has no spent use: %q", user, w.session(key), spent[key])
		}
	}
}

// book notes whose a spent use is.
func (w *world) book(u uia.Use, spent map[string]string) {
	if u.State == uia.Pinned && u.Changed.After(time.Now()) {
		// By a clock that is ahead, and as long as it is: in doubt until then.
		spent[u.Session] = w.db.byKey[u.Session]
	}
	if u.State != uia.Spent {
		return
	}
	if spent[u.Session] != "" && !w.sc.TwoUses {
		w.wrong("%s has spent two uses", w.session(u.Session))
	}
	spent[u.Session] = u.UserID
	if w.db.byKey[u.Session] != u.UserID {
		w.wrong("a use is spent for %s of %s, and the account is %q", u.UserID, w.session(u.Session), w.db.byKey[u.Session])
	}
}

// checkEnds checks that a session can end: its client, whom nobody disturbs any more,
// gets the result, or learns that the session or its token is gone. It does what the
// answers say, and is not refused the same twice.
func (w *world) checkEnds(s int, clean bool) {
	c := w.sc.Clients[s]
	leg := c.Legs[len(c.Legs)-1]
	refused := map[Leg]string{}
	for range 8 {
		m := w.request(bg, w.sc.Processes, s, leg)
		has := w.account(s) != ""
		switch {
		case m.status == 200 && has:
			return
		case m.status == 403 && has: // it is finished, and this is not who finished it
			return
		case m.status == 400 && m.code == "M_UNKNOWN" && !has && !clean && refused[leg] == "":
			// The operation may say so once; then the session must be over.
			if m = w.request(bg, w.sc.Processes, s, leg); m.code != "M_UNKNOWN" || strings.Contains(m.text, tooLate) {
				w.wrong("S%d can never succeed, and is not told to start again: %d %s", s, m.status, m.text)
			}
			return
		case m.status == 401 && m.code == "" && m.missing != nil:
			leg = c.next(m.missing.Completed)
			continue
		case m.status == 401 && has && len(m.missing.Completed) == len(c.Legs):
			return // the other way to say that it is finished
		case m.status == 401 && !w.available(s, leg.Token):
			return // it is another's
		case m.code == "M_UNAUTHORIZED" && leg.Token != "":
			w.wrong("S%d, whom nobody disturbs any more, is told %s of a token that it can have", s, m.text)
			return
		case refused[leg] == m.text:
			w.wrong("S%d, which nobody disturbs any more, is told twice %d %s (account: %t)", s, m.status, m.text, has)
			return
		case m.status != 401:
			refused[leg] = m.text
			continue
		}
		refused[leg] = m.text
		leg = c.next(m.missing.Completed)
	}
	w.wrong("S%d does not come to an end", s)
}

// next is the leg that is missing.
func (c Client) next(completed []string) Leg {
	for _, l := range c.Legs {
		if !slices.Contains(completed, l.Type) {
			return l
		}
	}
	return c.Legs[len(c.Legs)-1]
}

// available reports whether the session could have a use of the token; of any that it
// needs, if none is named.
func (w *world) available(s int, token string) bool {
	for _, l := range w.sc.Clients[s].Legs {
		if l.Token == "" || token != "" && l.Token != token {
			continue
		}
		t, err := w.db.Token(bg, l.Token, time.Now())
		if err != nil {
			return false
		}
		page, _ := w.db.ListUses(bg, uia.UseQuery{Token: l.Token})
		own := slices.ContainsFunc(page.Uses, func(u uia.Use) bool {
			return u.Session == w.key(s) && (u.State != uia.Held || u.Until.After(time.Now()))
		})
		if !own && t.Usable(time.Now()) != nil || t.Revoked {
			return false
		}
	}
	return true
}
