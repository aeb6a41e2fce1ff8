package uiatest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"
)

// borrow borrows the accounts of a case, whose variables become ${account.NAME.user} and
// so on. The case calls giveBack when it has ended, and says whether it has left the
// accounts as they were.
func (r *runner) borrow(ctx context.Context, c *Case, s *scope) (giveBack func(intact bool), err error) {
	names := slices.Sorted(maps.Keys(c.accounts))
	want := make([]accountDecl, len(names))
	for i, name := range names {
		want[i] = c.accounts[name]
	}
	taken, err := r.accounts.take(ctx, want, s.from.waiting)
	if err != nil {
		return nil, err
	}
	for i, name := range names {
		if taken[i], err = r.usable(ctx, want[i].kind(), taken[i], s); err != nil {
			for i, d := range want { // the case has not used them
				r.accounts.give(d.kind(), taken[i])
			}
			return nil, err
		}
		s.lend(name, taken[i])
	}
	return func(intact bool) {
		for i, d := range want {
			if !intact || d.Spoils {
				taken[i] = nil
			}
			r.accounts.give(d.kind(), taken[i])
		}
	}, nil
}

// usable returns the account, or a new one if there is none or it does not work.
func (r *runner) usable(ctx context.Context, kind string, a *account, s *scope) (_ *account, err error) {
	if a != nil && a.used && !r.works(ctx, a, s.from) {
		a = nil
	}
	if a == nil {
		if a, err = r.makeAccount(ctx, kind, s); err != nil {
			return nil, err
		}
	}
	a.used = true
	return a, nil
}

// works reports whether the access token of an account is still good, as far as the
// homeserver can be asked. What one case has done to an account that it has passed with
// is not to be blamed on the next.
func (r *runner) works(ctx context.Context, a *account, from *origin) bool {
	token, ok := a.values["access_token"].(string)
	if !ok || slices.Contains(r.server.Lacks, "whoami") {
		return true
	}
	whoami, err := r.sender.send(ctx, from, &message{method: http.MethodGet, path: "/_matrix/client/v3/account/whoami",
		header: http.Header{"Authorization": {"Bearer " + token}}}, patient)
	return err == nil && whoami.status != http.StatusUnauthorized && whoami.status != http.StatusForbidden
}

// makeAccount makes an account of a kind. What was sent is part of the story of the case
// that borrows it first, also if it fails.
func (r *runner) makeAccount(ctx context.Context, kind string, s *scope) (*account, error) {
	how, ok := r.suite.accounts[kind]
	if !ok {
		return nil, fmt.Errorf("there are no accounts of the kind %q", kind)
	}
	m := newScope(s.from)
	a := &account{kind: kind, values: m.values, log: m.log}
	err := r.registerAccount(ctx, how, m, a)
	a.made = time.Now()
	if err != nil {
		s.last = s.log.addAll(m.log, m.last)
		return nil, err
	}
	return a, nil
}

func (r *runner) registerAccount(ctx context.Context, how accountKind, m *scope, a *account) error {
	r.given(m)
	m.values["user"] = "uiatest-" + random(12)
	m.values["token"] = ""
	if r.flow != "D" {
		token, err := r.mint.token(ctx, tokenDecl{}, m)
		if err != nil {
			return err
		}
		m.values["token"] = token
	}
	if err := r.steps(ctx, r.suite.sequences["to-last"], m); err != nil {
		return err
	}
	body := map[string]any{"username": "${user}", "password": "${password}", "auth": "${last}"}
	maps.Copy(body, how.JSON)
	var err error
	a.answer, err = r.ask(ctx, &step{Request: http.MethodPost + " " + registerPath, JSON: body, Expect: &expect{Status: statuses{http.StatusOK}}}, m, patient)
	a.at = m.last
	if err != nil {
		return err
	}
	for _, member := range []string{"user_id", "access_token", "device_id", "refresh_token"} {
		if value, ok := dig(a.answer.json, member).(string); ok {
			m.values[member] = value
		}
	}
	return r.steps(ctx, how.Steps, m)
}

// lend makes an account's variables those of the case under a name.
func (s *scope) lend(name string, a *account) {
	for key, value := range a.values {
		s.values["account."+name+"."+key] = value
	}
	s.last = s.log.addAll(a.log, a.at)
	s.lent[name] = lentAccount{a, s.last}
}

// lentAccount is an account that a case has borrowed, and where in the story of the case
// its registration is.
type lentAccount struct {
	*account
	at int
}

// registered judges the answer with which an account was registered.
func (r *runner) registered(st *step, s *scope) error {
	a, ok := s.lent[st.Registered]
	if !ok {
		return fmt.Errorf("the case borrows no account %q", st.Registered)
	}
	s.last = a.at
	return r.judge(st, a.answer, s)
}

// intact reports whether a case has left what it has borrowed as it was: it has not
// failed, or has sent nothing.
func intact(err error, s *scope, before int) bool {
	var inapplicable *inapplicable
	return err == nil || errors.As(err, &inapplicable) || s.log.count() == before
}
