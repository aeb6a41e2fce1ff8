package simtest

// plant is a change of one place of the sources. What it changes is switched on by the
// name of a mistake, by Planted.
type plant struct {
	file     string // from the root of the module
	old, new string // old stands there exactly once
}

var plants = []plant{
	{"visit_step.go", `		if v.rec.State == Done || v.running() {
			return v.step(ctx, nil, true)
		}
`, `		if Planted("check before replay") && v.rec.State == Done {
			if err := v.op.Check(ctx, v.s); err != nil {
				return nil, err
			}
		}
		if v.rec.State == Done || v.running() {
			return v.step(ctx, nil, true)
		}
`},
	{"visit_step.go", `	case v.data.Dead:
		return nil, errUnknownSession
	case same && v.replayable():`, `	case v.data.Dead && !Planted("a dead session is finished"):
		return nil, errUnknownSession
	case (same || Planted("replay to strangers")) && v.replayable():`},
	{"visit_step.go", `		return replayMove
	case v.running():
		if v.sameClient() {`, `		return replayMove
	case v.running() && !Planted("a lease ends early"):
		if v.sameClient() {`},
	{"visit_hold.go", `	for _, c := range gone {
		if st`, `	for _, c := range gone {
		if Planted("uncomplete without release") {
			break
		}
		if st`},
	{"visit_hold.go", `	data := v.data.First(i)
`, `	data := v.data.First(i)
	if Planted("uncomplete one stage") {
		data.Completed = append(data.Completed, v.data.Completed[i+1:]...)
	}
`},
	{"visit_record.go", `	next, data := v.leased(v.data)
	err := v.save(ctx, next, data)
	v.owned`, `	next, data := v.leased(v.data)
	if Planted("lease without compare-and-swap") {
		if found, err := v.e.cfg.Sessions.LoadSession(ctx, next.Key, v.e.now()); err == nil {
			next.Revision = found.Revision
		}
	}
	err := v.save(ctx, next, data)
	v.owned`},
	{"visit_record.go", `func (v *visit) inDoubt() bool { return v.data.Doubt || v.rec.State == Running }`, `func (v *visit) inDoubt() bool {
	return v.data.Doubt || v.rec.State == Running && !Planted("no doubt after a takeover")
}`},
	{"visit_record.go", `	next.Owner = rand.Text()
	return draft{next, data}`, `	if !Planted("one nonce") || next.State == Running || next.Owner == "" {
		next.Owner = rand.Text()
	}
	return draft{next, data}`},
	{"visit_record.go", `	return d.Owner != "" && found.Owner == d.Owner && found.Revision == d.Revision+1
`, `	if Planted("owner not compared") {
		return found.Revision == d.Revision+1
	}
	return d.Owner != "" && found.Owner == d.Owner && (found.Revision == d.Revision+1 || Planted("revision not compared"))
`},
	{"visit_record.go", `	if changedNothing(err) {`, `	if changedNothing(err) && !Planted("refusals are looked into") || Planted("no look for a lost answer") {`},
	{"visit_record.go", `	v.owned, v.pinned, v.unsure = false, false, false`, `	v.owned, v.pinned, v.unsure = false, v.pinned && Planted("the pin outlives its lease"), false`},
	{"visit_stage.go", `	settle(failed)
`, `	settle((failed || Planted("a right token is charged")) && !Planted("guesses are free"))
`},
	{"visit_stage.go", `	if last.draft.wrote(v.rec) {
`, `	if last.draft.wrote(v.rec) && !Planted("no look after a group") {
`},
	{"visit_stage.go", `			v.loosen(ctx, st, last.held)
`, `			if Planted("N3: a hold that another may record is released") {
				v.release(ctx, st, last.held)
				return false, err
			}
			v.loosen(ctx, st, last.held)
`},
	{"visit_stage.go", `	if holds { // another token`, `	if holds && !Planted("the slower token stays held") { // another token`},
	{"run_begin.go", `		r.pinned = false`, `		r.pinned = Planted("the early pin stays")`},
	{"run_begin.go", `	if r.mayBeOver() {
		// Recover`, `	if r.mayBeOver() && !Planted("no burial") {
		// Recover`},
	{"run_begin.go", `	if !lost || errors.Is(err, ErrSpent) || r.mayBeOver() {
`, `	if !lost || errors.Is(err, ErrSpent) || r.mayBeOver() || Planted("never taken anew") {
`},
	{"run_begin.go", `		if r.doubt() {
			r.reopen(ctx, true)
		} else {`, `		if r.doubt() && !Planted("begin undoes what is in doubt") {
			r.reopen(ctx, true)
		} else {`},
	{"run_begin.go", `	r.reopen(ctx, r.data.Doubt || (stuck || overtaken) && !r.op.Tx)
`, `	r.reopen(ctx, r.data.Doubt || (stuck && !Planted("N1: a stuck pin") || overtaken && !Planted("N1: an overtaken pin")) && !r.op.Tx)
`},
	{"run_begin.go", `return !r.op.Tx && (r.data.Doubt || r.unsure) }`, `return !r.op.Tx && (r.data.Doubt || r.unsure && !Planted("N1: a lost pin")) }`},
	{"run.go", `	if err := r.begin(ctx, holdings); errors.Is(err, ErrSpent) {`, `	if err := r.begin(ctx, holdings); errors.Is(err, ErrSpent) && !Planted("a spent use is an error") {`},
	{"run.go", `	done, err := r.perform(ctx, holdings, r.limit(left))
`, `	if Planted("the record before the use") {
		effect, err := r.call(ctx, r.limit(left))
		if err != nil {
			return r.failed(ctx, holdings, refusedBy(err), err)
		}
		response, _ := encodeBody(effect.Body)
		out, err := r.conclude(ctx, response)
		if err == nil {
			_, _ = r.commit(ctx, holdings, effect.UserID)
		}
		return out, err
	}
	done, err := r.perform(ctx, holdings, r.limit(left))
`},
	{"run.go", `		if err != nil {
			return nil, err
		}
		ev := useEvent`, `		if Planted("commit without fence") && errors.Is(err, ErrNotHeld) {
			continue
		}
		if err != nil {
			return nil, err
		}
		ev := useEvent`},
	{"run.go", `		if r.rec.State == Done && r.data.Response != nil {
			return r.data.Response, nil`, `		if r.rec.State == Done && r.data.Response != nil && Planted("the second answer is told") {
			return response, nil
		}
		if r.rec.State == Done && r.data.Response != nil {
			return r.data.Response, nil`},
	{"run_failed.go", `	if !found && err == nil {
`, `	if !found && err == nil && Planted("alreadyDone does not wait") {
		err = waiting.ErrTimeout
	}
	if !found && err == nil {
`},
	{"run_failed.go", `	for _, h := range holdings {
		claim := h.TxClaim
`, `	for _, h := range holdings {
		if Planted("no rollback") {
			break
		}
		claim := h.TxClaim
`},
	{"run_failed.go", `	case done.refusal == nil && !r.op.Tx:
`, `	case done.refusal == nil && !r.op.Tx && !Planted("an error is a refusal"):
`},
	{"run_failed.go", `	case done.refusal != nil && r.doubt() && !done.fenced:
`, `	case done.refusal != nil && r.doubt() && !done.fenced && !Planted("a refusal in doubt is believed"):
`},
	{"run_failed.go", `	r.reopen(ctx, stuck && !r.op.Tx)`, `	r.reopen(ctx, stuck && !r.op.Tx && !Planted("a stuck rollback leaves no doubt"))`},
	{"run_failed.go", `	if !outcome.Done {
		for`, `	if !outcome.Done || Planted("decided without Resolve") {
		for`},
	{"run_failed.go", `	if overtaken {
		if r.load`, `	if overtaken && !Planted("overtaken but reopened") {
		if r.load`},
	{"run_failed.go", `	r.owned = false
	r.reopen(ctx, !r.op.Tx)
`, `	r.owned = false
	r.reopen(ctx, !r.op.Tx && !Planted("giving up leaves no doubt"))
`},
	{"run_failed.go", `	r.adopt(r.lease.Record, r.lease.data)
`, `	if !Planted("another's lease is given back") {
		r.adopt(r.lease.Record, r.lease.data)
	}
`},
	{"grant.go", `	case !flow.Done(v.s.Flows, v.s.Completed, v.op.AnyOrder):`, `	case !flow.Done(v.s.Flows, v.s.Completed, v.op.AnyOrder) && !Planted("a lost stage runs"):`},
	{"recover.go", `	claims, err := st.tx.InDoubt(ctx, e.now().Add(-e.cfg.LeaseTTL), sweepBatch)
`, `	before := e.now().Add(-e.cfg.LeaseTTL)
	if Planted("Recover decides young pins") {
		before = e.now().Add(time.Millisecond)
	}
	claims, err := st.tx.InDoubt(ctx, before, sweepBatch)
`},
	{"recover.go", `	c.Run |= 1
	c.Now = e.now()
`, `	if !Planted("Recover keeps the run") {
		c.Run |= 1
	}
	c.Now = e.now()
	resolve := e.operations[operationOf(c.Key)].Resolve
	if Planted("Resolve before the pin") {
		early, err := resolve(ctx, c.Key)
		if err != nil {
			return false, err
		}
		resolve = func(context.Context, string) (Outcome, error) { return early, nil }
	}
`},
	{"recover.go", `	outcome, err := op.Resolve(ctx, c.Key)
	if err != nil {
		return false, err
	}
`, `	outcome, err := resolve(ctx, c.Key)
	if err != nil {
		return false, err
	}
	if Planted("Recover gives all back") {
		outcome = Outcome{}
	}
`},
	{"stage_token.go", `	err = t.Store.Reserve(ctx, Hold{Token: r.Token, Session: c.Key, Until: until}, c.Now)
	if err != nil {
		return nil, t.asRefusal(err)
	}
`, `	err = t.Store.Reserve(ctx, Hold{Token: r.Token, Session: c.Key, Until: until}, c.Now)
	if err != nil && Planted("a lost Reserve is a refusal") {
		return nil, refuseToken(err)
	}
	if err != nil {
		return nil, t.asRefusal(err)
	}
`},
	{"stage_token.go", `	if kept != nil {
`, `	if kept != nil && !Planted("release of another's hold") {
`},
	{"memstore/uses.go", `	for range displace {
`, `	if uia.Planted("lapsed holds are kept") {
		displace = 0
	}
	for range displace {
`},
	{"memstore/uses.go", `	if displace > int64(t.lapsed(now)) {
`, `	if displace > int64(t.lapsed(now)) && !(uia.Planted("firm holds are displaced") && displace <= int64(len(t.held))) {
`},
	{"memstore/uses.go", `	case u != nil && u.State == uia.Pinned:
		return nil
	case u != nil:
		s.change(u, func(u *uia.Use) { u.Until = ms(h.Until) })
		return nil
`, `	case u != nil && u.State == uia.Pinned && uia.Planted("renewing unpins"):
		s.change(u, func(u *uia.Use) { u.State, u.Until = uia.Held, ms(h.Until) })
		return nil
	case u != nil && u.State == uia.Pinned:
		return nil
	case u != nil && uia.Planted("an expired token ends holds") && !t.Expires.IsZero() && !now.Before(t.Expires):
		return uia.ErrExpired
	case u != nil && !uia.Planted("a use for each request"):
		s.change(u, func(u *uia.Use) { u.Until = ms(h.Until) })
		return nil
`},
	{"memstore/uses.go", `	if c.Run < u.Run || u.State == uia.Held && c.Run == u.Run {
`, `	if c.Run < u.Run && !uia.Planted("Pin by a lower run") || u.State == uia.Held && c.Run == u.Run && !uia.Planted("Pin of what the same run has unpinned") {
`},
	{"memstore/uses.go", `	case c.Run != u.Run || c.Run <= 0:
`, `	case (c.Run != u.Run || c.Run <= 0) && !uia.Planted("Unpin by any run"):
`},
	{"memstore/uses.go", `	case u.State != uia.Pinned || c.Run != u.Run:
`, `	case u.State != uia.Pinned || c.Run != u.Run && !uia.Planted("Commit by any run"):
`},
	{"memstore/uses.go", `	if err != nil {
		return err
	}
	if c.Run < u.Run || u.State == uia.Pinned && c.Run != u.Run {
`, `	if err != nil {
		return err
	}
	if (c.Run < u.Run || u.State == uia.Pinned && c.Run != u.Run) && !uia.Planted("Release by any run") {
`},
	{"memstore/sessions.go", `	case old == nil || old.Revision != r.Revision:
`, `	case old == nil || old.Revision != r.Revision && !uia.Planted("SaveSession without compare-and-swap"):
`},
	{"memstore/sessions.go", `		if old != nil && !old.expired(now) {
`, `		if old != nil && !old.expired(now) && !uia.Planted("SaveSession creates over another") {
`},
	{"internal/simtest/postgres.go", `		if _, err := d.SaveSession(bg, r.Record, r.now); err != nil {
			return err
		}
		pinned`, `		if _, err := d.SaveSession(bg, r.Record, r.now); err != nil {
			if uia.Planted("a pin without its lease") && d.Pin(bg, cl, now) == nil {
				pinned = err
				return nil
			}
			return err
		}
		pinned`},
	{"internal/simtest/postgres.go", `	case err == nil && !saved:
		err = uia.ErrConflict`, `	case err == nil && !saved && !uia.Planted("a joint save is taken for saved"):
		err = uia.ErrConflict`},
	{"internal/simtest/postgres.go", `		if err := d.Commit(bg, p.claim, p.user, p.now); err != nil {
			return err
		}
		_, err := d.Save`, `		if err := d.Commit(bg, p.claim, p.user, p.now); err != nil && !uia.Planted("a save without its spending") {
			return err
		}
		_, err := d.Save`},
	{"internal/simtest/postgres.go", `	if g.again {
		return fn(ctx)
	}
	return err`, `	if g.again && !uia.Planted("a group is not run again") {
		return fn(ctx)
	}
	return err`},
}
