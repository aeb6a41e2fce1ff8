package uiatest

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// problem is what is wrong with an answer.
type problem struct{ list []string }

func (p *problem) Error() string { return strings.Join(p.list, "; ") }

func problems(list ...string) error { return &problem{list} }

// steps takes the steps of a case one after the other.
func (r *runner) steps(ctx context.Context, steps []step, s *scope) error {
	for i := range steps {
		if err := r.step(ctx, &steps[i], s); err != nil {
			return err
		}
	}
	return nil
}

func (r *runner) step(ctx context.Context, st *step, s *scope) error {
	if st.When != "" && st.When != r.flow {
		return nil
	}
	switch {
	case st.Use != "":
		if err := s.set(st.With); err != nil {
			return err
		}
		sequence, ok := r.suite.sequences[st.Use]
		if !ok {
			return fmt.Errorf("there is no sequence %q", st.Use)
		}
		return r.steps(ctx, sequence, s)
	case st.Set != nil:
		return s.set(st.Set)
	case st.Race != nil:
		return r.race(ctx, st.Race, s)
	case st.Registered != "":
		return r.registered(st, s)
	case st.Until != nil:
		return r.until(ctx, st, s)
	case st.Wait > 0:
		return sleep(ctx, time.Duration(st.Wait)*time.Second)
	}
	_, err := r.ask(ctx, st, s, patient)
	return err
}

// set sets variables. All are worked out before the first is set.
func (s *scope) set(values map[string]any) error {
	worked, err := s.value(values)
	if err != nil {
		return err
	}
	object, _ := worked.(map[string]any)
	maps.Copy(s.values, object)
	return nil
}

// ask sends the request of a step and judges the answer.
func (r *runner) ask(ctx context.Context, st *step, s *scope, how manner) (*answer, error) {
	m, err := s.message(st)
	if err != nil {
		return nil, err
	}
	if how == patient && st.Expect != nil && st.Expect.allows(http.StatusTooManyRequests) {
		how = once
	}
	a, err := r.sender.send(ctx, s.from, m, how)
	s.last = s.log.add(newExchange(m, a, err), a)
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(a.header.Get("Content-Type"), "text/html") {
		s.page = a
	}
	if password, ok := s.values["password"].(string); ok && strings.Contains(string(m.body), password) {
		if err := r.refused(a); err != nil {
			return nil, err
		}
	}
	err = r.judge(st, a, s)
	if broken := (*problem)(nil); st.Given != "" && errors.As(err, &broken) {
		err = notApplicable(fmt.Sprintf("it is about a homeserver where %s: %v", st.Given, broken))
	}
	return a, err
}

// judge compares an answer with what the step expects, and saves what it saves.
func (r *runner) judge(st *step, a *answer, s *scope) error {
	if st.Expect != nil {
		want, err := s.expect(st.Expect)
		if err != nil {
			return err
		}
		list := want.problems(a)
		for _, name := range want.Body.Calls {
			if pageCalls(string(a.body), name) == cannotTell {
				return notApplicable("the scripts of the page stand in other files, or are too long to be looked through")
			}
		}
		if len(list) > 0 {
			return problems(list...)
		}
	}
	return s.save(st.Save, a)
}

// expect puts the variables into an expectation.
func (s *scope) expect(e *expect) (out expect, err error) {
	out.Status, out.Served = e.Status, e.Served
	if out.JSON, err = s.value(e.JSON); err != nil {
		return out, err
	}
	headers := make(map[string]any, len(e.Headers))
	for name, want := range e.Headers {
		if headers[name], err = s.value(want); err != nil {
			return out, err
		}
	}
	out.Headers = headers
	for _, one := range e.Any {
		worked, err := s.expect(&one)
		if err != nil {
			return out, err
		}
		out.Any = append(out.Any, worked)
	}
	out.Body.Calls, out.Body.Uncalled, out.Body.Password = e.Body.Calls, e.Body.Uncalled, e.Body.Password
	for list, into := range map[*[]string]*[]string{&e.Body.Contains: &out.Body.Contains, &e.Body.Lacks: &out.Body.Lacks} {
		for _, text := range *list {
			worked, err := s.text(text)
			if err != nil {
				return out, err
			}
			*into = append(*into, worked)
		}
	}
	return out, nil
}

// save sets variables from an answer.
func (s *scope) save(names map[string]string, a *answer) error {
	for name, path := range names {
		v := dig(a.json, path)
		if _, gone := v.(absent); gone || v == nil {
			return problems(fmt.Sprintf("member %q is missing", path))
		}
		s.values[name] = v
	}
	return nil
}

// message makes the request of a step.
func (s *scope) message(st *step) (*message, error) {
	request := st.Request
	if st.Fill != "" {
		return s.submit(st.Fill, st.Secret)
	}
	m := &message{header: make(http.Header)}
	line, err := s.text(request)
	if err != nil {
		return nil, err
	}
	m.method, m.path, _ = strings.Cut(line, " ")
	var kind string
	if m.body, kind, err = s.body(st); err != nil {
		return nil, err
	}
	if kind != "" {
		m.header.Set("Content-Type", kind)
	}
	if st.Bearer != "" {
		token, err := s.text(st.Bearer)
		if err != nil {
			return nil, err
		}
		m.header.Set("Authorization", "Bearer "+token)
	}
	for name, value := range st.Headers {
		text, err := s.text(value)
		if err != nil {
			return nil, err
		}
		m.header.Set(name, text)
	}
	return m, nil
}

// body makes the body of a step's request, and says what it is; "" if there is none.
func (s *scope) body(st *step) (body []byte, kind string, err error) {
	switch {
	case st.JSON != nil:
		v, err := s.value(st.JSON)
		return encode(v), "application/json", err
	case st.Body != "":
		text, err := s.text(st.Body)
		return []byte(text), "application/json", err
	case st.Base64 != "":
		body, err = base64.StdEncoding.DecodeString(st.Base64)
		return body, "application/json", err
	case st.Form != nil:
		form := make(url.Values)
		for name, value := range st.Form {
			text, err := s.text(value)
			if err != nil {
				return nil, "", err
			}
			form.Set(name, text)
		}
		return []byte(form.Encode()), "application/x-www-form-urlencoded", nil
	}
	return nil, "", nil
}
