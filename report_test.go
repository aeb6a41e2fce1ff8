package uia_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
)

// faulty is a stage of the host that does what must not be, wherever it is asked.
type faulty struct {
	where string
	fault func() (json.RawMessage, error)
}

var errFaulty = errors.New("the vault is sealed")

func (f *faulty) Type() string { return "org.example.faulty" }

func (f *faulty) at(where string) (json.RawMessage, error) {
	if f.where == where {
		return f.fault()
	}
	return nil, nil
}

func (f *faulty) Attempt(context.Context, *uia.Session, json.RawMessage) (json.RawMessage, error) {
	result, err := f.at("Attempt")
	if result == nil && err == nil {
		result = json.RawMessage(`{}`)
	}
	return result, err
}

func (f *faulty) Params(context.Context, *uia.Session) (json.RawMessage, error) {
	return f.at("Params")
}

func (f *faulty) Opening(context.Context, *uia.Session) (string, error) {
	state, err := f.at("Opening")
	return string(state), err
}

func (f *faulty) Hold(_ context.Context, c uia.TxClaim) (json.RawMessage, error) {
	if f.where == "Hold" {
		return f.fault()
	}
	return c.Result, nil
}

func (f *faulty) Begin(context.Context, uia.TxClaim) error { _, err := f.at("Begin"); return err }

func (f *faulty) Commit(context.Context, uia.TxClaim, string) error {
	_, err := f.at("Commit")
	return err
}

func (f *faulty) Rollback(context.Context, uia.TxClaim) error { return nil }

func (f *faulty) Release(context.Context, uia.TxClaim, json.RawMessage) error { return nil }

func (f *faulty) InDoubt(context.Context, time.Time, int) ([]uia.TxClaim, error) {
	_, err := f.at("InDoubt")
	return nil, err
}

func (f *faulty) Sweep(context.Context, time.Time) (int, error) {
	_, err := f.at("Sweep")
	return 0, err
}

// What is wrong with a stage answers the client with a 500 that says nothing, and a line
// in the log that says which stage it was, in which operation and session.
func TestWhatIsWrongWithAStageIsLogged(t *testing.T) {
	faults := map[string]struct {
		fault func() (json.RawMessage, error)
		log   string
	}{
		"an error":             {func() (json.RawMessage, error) { return nil, errFaulty }, errFaulty.Error()},
		"a panic":              {func() (json.RawMessage, error) { panic(errFaulty) }, "panicked: " + errFaulty.Error()},
		"an answer with cause": {func() (json.RawMessage, error) { return nil, &uia.Error{Status: 502, Cause: errFaulty} }, errFaulty.Error()},
	}
	for where, session := range map[string]bool{"Opening": false, "Params": true, "Attempt": true, "Hold": true, "Begin": true, "Commit": true} {
		for name, c := range faults {
			t.Run(where+"/"+name, func(t *testing.T) {
				stage := &faulty{}
				logger, text := logged()
				h := newHomeserver(t, setup{flows: []uia.Flow{{stage.Type()}}, change: func(cfg *uia.Config) {
					cfg.Stages = append(cfg.Stages, stage)
					cfg.Logger = logger
				}})
				id := h.open(dict{"username": "alice"})
				stage.where, stage.fault = where, c.fault
				text.Reset()
				body := with(dict{"username": "alice"}, submit(id, stage.Type()))
				if where == "Opening" || where == "Params" {
					body = dict{"username": "alice"}
				}
				a := h.post(body)
				assert.GreaterOrEqual(t, a.Status, 500)
				assert.NotContains(t, string(a.Body), "vault")
				line, _, _ := strings.Cut(text.String(), "\n")
				assert.Contains(t, line, `stage \"org.example.faulty\": `)
				assert.Contains(t, line, c.log)
				assert.Contains(t, line, "operation=register")
				assert.Equal(t, session, strings.Contains(line, "session=register."), line)
				assert.NotContains(t, text.String(), id, "the session's ID is a secret")
			})
		}
	}
}

func TestAResultThatIsNoJSON(t *testing.T) {
	for _, where := range []string{"Attempt", "Params"} {
		stage := &faulty{where: where, fault: func() (json.RawMessage, error) { return json.RawMessage("{"), nil }}
		logger, text := logged()
		h := newHomeserver(t, setup{flows: []uia.Flow{{stage.Type()}}, change: func(cfg *uia.Config) {
			cfg.Stages = append(cfg.Stages, stage)
			cfg.Logger = logger
		}})
		body := dict{}
		if where == "Attempt" {
			body["auth"] = dict{"type": stage.Type()}
		}
		h.post(body).is(t, 500, "M_UNKNOWN")
		assert.Contains(t, text.String(), `stage \"org.example.faulty\": the `)
		assert.Contains(t, text.String(), "not JSON")
	}
}

func TestRecoverNamesTheStage(t *testing.T) {
	for _, where := range []string{"InDoubt", "Sweep"} {
		stage := &faulty{where: where, fault: func() (json.RawMessage, error) { panic(errFaulty) }}
		h := newHomeserver(t, setup{flows: []uia.Flow{{stage.Type()}}, change: func(cfg *uia.Config) {
			cfg.Stages = append(cfg.Stages, stage)
		}})
		_, err := h.engine.Recover(t.Context())
		require.ErrorContains(t, err, `stage "org.example.faulty": panicked: the vault is sealed`)
	}
}

// An operation whose body does not encode, and a Check that breaks, are named too.
func TestTheOperationIsNamed(t *testing.T) {
	logger, text := logged()
	h := newHomeserver(t, setup{flows: []uia.Flow{{"m.login.dummy"}}, change: func(cfg *uia.Config) { cfg.Logger = logger }})
	h.operate = func(context.Context, *uia.Session) (uia.Effect, error) {
		return uia.Effect{UserID: "@a:test", Body: make(chan int)}, nil
	}
	h.post(dict{"auth": submitDummy(h.open(dict{}))}).is(t, 500, "M_UNKNOWN")
	assert.Contains(t, text.String(), `operation=register session=register.`)
	assert.Contains(t, text.String(), `the body of operation \"register\" does not encode: json: unsupported type: chan int`)
}

// A panic in a function of an operation is a 500, and a line in the log that names the
// function, in which operation and session.
func TestThePanicsOfAnOperationAreNamed(t *testing.T) {
	for where, change := range map[string]func(*uia.Operation){
		"Check": func(o *uia.Operation) { o.Check = func(context.Context, *uia.Session) error { panic(errFaulty) } },
		"Admit": func(o *uia.Operation) { o.Admit = func(context.Context, *uia.Session) error { panic(errFaulty) } },
		"Prepare": func(o *uia.Operation) {
			o.Prepare = func(context.Context, *uia.Session) (any, error) { panic(errFaulty) }
		},
		"FlowsFor": func(o *uia.Operation) {
			o.Flows, o.FlowsFor = nil, func(context.Context, uia.Request) ([]uia.Flow, error) { panic(errFaulty) }
		},
	} {
		t.Run(where, func(t *testing.T) {
			logger, text := logged()
			h := newHomeserver(t, setup{flows: []uia.Flow{{"m.login.dummy"}}, change: func(cfg *uia.Config) {
				cfg.Logger = logger
				change(&cfg.Operations[0])
			}})
			h.post(dict{"username": "alice", "auth": dict{"type": "m.login.dummy"}}).is(t, 500, "M_UNKNOWN")
			assert.Contains(t, text.String(), "operation register: "+where+" panicked: the vault is sealed")
			assert.Contains(t, text.String(), "operation=register")
		})
	}
}

func TestRecoverOutlivesAPanicOfResolve(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHomeserver(t, setup{flows: []uia.Flow{flowT}, change: func(cfg *uia.Config) {
			cfg.Operations[0].Resolve = func(context.Context, string) (uia.Outcome, error) { panic(errFaulty) }
		}})
		h.token("x", 1)
		h.operate = func(context.Context, *uia.Session) (uia.Effect, error) { return uia.Effect{}, errBroken }
		h.post(dict{"username": "alice", "auth": dict{"type": uia.TokenType, "token": "x"}}).is(t, 500, "M_UNKNOWN")
		<-time.After(2 * time.Minute)
		report, err := h.engine.Recover(t.Context())
		require.ErrorContains(t, err, "operation register: Resolve panicked: the vault is sealed")
		assert.Equal(t, 1, report.Unresolved)
	})
}
