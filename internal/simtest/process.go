package simtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"time"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia"
)

var (
	secret  = []byte("a secret of the tests, 32 bytes long or more")
	address = netip.MustParseAddr("192.0.2.1")
)

// newEngine returns the engine of a process.
func (w *world) newEngine(proc int) *uia.Engine {
	op := uia.Operation{
		Name: "register", Flows: []uia.Flow{w.sc.Flow}, Mutable: true, Remember: []string{"username"},
		Check: w.check, Resolve: w.resolve,
	}
	if w.kind.tx {
		op.Tx, op.Resolve = true, nil
	}
	store := Store{w}
	cfg := uia.Config{
		Secrets: uia.FixedSecrets(secret), Sessions: store,
		Stages: []uia.Stage{
			&uia.TokenStage{Store: store, HoldTTL: w.sc.HoldTTL},
			&uia.TokenStage{Store: store, HoldTTL: w.sc.HoldTTL, AuthType: uia.TokenTypeUnstable},
			passStage{}, uia.DummyStage{},
		},
		Operations: []uia.Operation{op}, LeaseTTL: leaseTTL, Logger: slog.New(w),
		Now: func() time.Time { return w.now(proc) },
	}
	if w.sc.Configure != nil {
		w.sc.Configure(w, proc, &cfg)
	}
	e, err := uia.New(cfg)
	if err != nil {
		panic(err)
	}
	return e
}

// passStage passes, like the dummy stage.
type passStage struct{ uia.DummyStage }

const passType = "example.pass"

func (passStage) Type() string { return passType }

func username(s *uia.Session) string {
	var name string
	_, _ = s.Param("username", &name)
	return "@" + name
}

// check refuses a name that is taken.
func (w *world) check(ctx context.Context, s *uia.Session) error {
	name := username(s)
	return w.read(ctx, point{name: "check", arg: name}, func(d *database) (string, error) {
		if d.byName[name] != "" {
			return "", uia.NewError(400, spec.UserInUse("taken"))
		}
		return "free", nil
	})
}

func accountLock(key string) string { return "a:" + key }
func nameLock(name string) string   { return "n:" + name }

// resolve looks for the account, and puts a tombstone in its place if there is none.
func (w *world) resolve(ctx context.Context, key string) (o uia.Outcome, err error) {
	err = w.write(ctx, point{name: "resolve", arg: w.session(key), locks: []string{accountLock(key)}}, func(d *database) error {
		user := d.byKey[key]
		d.byKey[key] = user
		o = uia.Outcome{Done: user != "", UserID: user}
		return nil
	})
	if err != nil {
		return uia.Outcome{}, err
	}
	actorOf(ctx).note("resolved ", o.Done)
	return o, nil
}

// tooLate is what the operation says after Resolve has said that it will never happen.
const tooLate = "too late"

// badName is refused by the operation, not by the check.
const badName = "@bad"

// create is the operation. It makes at most one account for each session, which holds a
// use meanwhile.
func (w *world) create(ctx context.Context, s *uia.Session) (uia.Effect, error) {
	name := username(s)
	a := actorOf(ctx)
	if a != nil {
		run := fmt.Sprint(s.Key, s.Run)
		if first, ok := w.ran[run]; ok && first != a.id && !w.sc.Sweeps {
			w.wrong("two requests of %s run as run %d", w.session(s.Key), s.Run)
		}
		w.ran[run] = a.id
	}
	var user string
	p := point{name: "create", arg: name + " " + w.session(s.Key), locks: []string{accountLock(s.Key), nameLock(name)}}
	err := w.write(ctx, p, func(d *database) error {
		if name == badName {
			return uia.NewError(400, spec.InvalidUsername("bad"))
		}
		if u, ok := d.byKey[s.Key]; ok && !w.kind.tx { // in a transaction no index is needed
			if u == "" {
				return uia.NewError(400, spec.Unknown(tooLate))
			}
			user = u
			return nil
		}
		if d.byName[name] != "" {
			return uia.NewError(400, spec.UserInUse("taken"))
		}
		d.byKey[s.Key], d.byName[name] = name, s.Key
		user = name
		return nil
	})
	if err != nil {
		return uia.Effect{}, err
	}
	id, n := "end", 0
	if a != nil {
		a.runs++
		id, n = a.name, a.runs
		a.note(user)
	}
	return uia.Effect{UserID: user, Body: map[string]string{"user_id": user, "access_token": fmt.Sprint(id, ".", n)}}, nil
}

// told is what a client was told.
type told struct {
	actor   string
	session int
	leg     Leg
	raw     string // the request's body
	status  int
	code    string
	text    string         // of the answer
	missing *uia.Challenge // of a 401
}

// Leg is one request of a client: its stage, with the parameters.
type Leg struct {
	Type, User, Token string
}

// tokenLeg and dummyLeg are the legs of an ordinary registration.
func tokenLeg(user, token string) Leg { return Leg{uia.TokenType, user, token} }
func dummyLeg(user string) Leg        { return Leg{Type: "m.login.dummy", User: user} }

func (l Leg) body(session string) string {
	auth := map[string]string{"session": session}
	if l.Type != "" {
		auth["type"] = l.Type
	}
	if l.Token != "" {
		auth["token"] = l.Token
	}
	body := map[string]any{"auth": auth}
	if l.User != "" {
		body["username"] = l.User
	}
	out, _ := json.Marshal(body)
	return string(out)
}

// request sends one request of a session to a process. The answer is noted.
func (w *world) request(ctx context.Context, proc, session int, leg Leg) told {
	m := told{session: session, leg: leg, raw: leg.body(w.sc.begin.sessions[session])}
	out, err := w.register(ctx, proc, m.raw)
	m.status, m.text = 200, string(out)
	if err != nil {
		m.status, m.text = 599, err.Error()
		if c, ok := errors.AsType[*uia.Challenge](err); ok {
			m.status, m.code, m.text, m.missing = 401, string(c.ErrCode), strings.TrimSpace(string(c.ErrCode)+" "+c.Message), c
		} else if e, ok := errors.AsType[*uia.Error](err); ok {
			m.status, m.code = e.Status, string(e.ErrCode)
		}
	}
	if a := actorOf(ctx); a != nil {
		m.actor = a.name
		a.note(m.status, m.code, m.text)
	}
	w.mu.Lock()
	w.told = append(w.told, m)
	w.mu.Unlock()
	w.log("        %s (S%d) is told %d %s", m.actor, session, m.status, m.text)
	return m
}

// register is what a homeserver does with a request.
func (w *world) register(ctx context.Context, proc int, body string) (json.RawMessage, error) {
	g, err := w.engines[proc].Authenticate(ctx, uia.Request{Operation: "register", Body: []byte(body), Client: address})
	if err != nil {
		return nil, err
	}
	return g.Finish(ctx, w.create)
}
