package uia_test

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/limit"
	"github.com/matrix-uia/uia/memstore"
)

func TestNewReportsEveryMistakeAtOnce(t *testing.T) {
	store := memstore.New(nil)
	limiter := newLimiter(t, nil)
	_, err := uia.New(uia.Config{
		Secrets:    uia.FixedSecrets([]byte("short"), secret, []byte("short, too")),
		Limiter:    limiter,
		SessionTTL: -1,
		Stages: []uia.Stage{
			&uia.TokenStage{Store: store}, uia.DummyStage{}, nil, uia.DummyStage{}, &probe{}, misconfigured{},
			(*uia.TokenStage)(nil), &uia.TokenStage{AuthType: uia.TokenTypeDraft, HoldTTL: -1},
			&uia.TokenStage{AuthType: uia.TokenTypeDraft2, Store: (*memstore.Store)(nil)},
		},
		Operations: []uia.Operation{
			{Name: "register", Flows: []uia.Flow{flowT, flowTD, {}, flowT, {"m.nowhere"}, {"m.login.dummy", "m.login.dummy"}}},
			{Name: "register", Flows: []uia.Flow{flowT}},
			{Name: "Not A Name"},
			{Name: "misconfigured", Configured: misconfigured{}.Configured},
			{Name: "both", Flows: []uia.Flow{flowT}, FlowsFor: func(context.Context, uia.Request) ([]uia.Flow, error) { return nil, nil }},
		},
	})
	require.Error(t, err)
	for _, want := range []string{
		"secret 1 of 3 has 5 bytes",
		"secret 3 of 3 has 10 bytes",
		"Sessions is required",
		"Client is required with a Limiter",
		"SessionTTL is negative",
		"Stages[2] is nil",
		`two stages are of type "m.login.dummy"`,
		"Stages[4] has no type",
		`stage "two mistakes": one`,
		`stage "two mistakes": two`,
		`two operations are named "register"`,
		"Stages[6] is nil",
		`stage "` + uia.TokenTypeDraft + `": Store is required`,
		`stage "` + uia.TokenTypeDraft + `": HoldTTL is negative`,
		`stage "` + uia.TokenTypeDraft2 + `": Store is required`,
		`operation "misconfigured": one`,
		`operation "misconfigured": two`,
		`operation "register": `,
		`operation "register": flow 2 is empty`,
		"[m.login.registration_token] is there twice",
		"[m.login.registration_token] is the beginning of flow [m.login.registration_token m.login.dummy]",
		`names the stage "m.nowhere", which is not registered`,
		`has the stage "m.login.dummy" twice`,
		`operation "register": Resolve is required`,
		`operation "Not A Name": a name is`,
		`operation "both": Flows and FlowsFor cannot both`,
	} {
		assert.ErrorContains(t, err, want)
	}
	assert.NotContains(t, err.Error(), "secret 2 of 3")
	for line := range strings.SplitSeq(err.Error(), "\n") {
		assert.True(t, strings.HasPrefix(line, "uia: "), "%q: each line says whose it is", line)
	}
}

// A store and a limiter that are nil pointers would panic at the first request.
func TestNewRefusesNilPointers(t *testing.T) {
	_, err := uia.New(uia.Config{
		Secrets: uia.FixedSecrets(secret), Sessions: (*memstore.Store)(nil), Limiter: (*limit.Limiter)(nil),
		Operations: []uia.Operation{{Name: "op", Tx: true}},
	})
	require.ErrorContains(t, err, "uia: Sessions is required")
	require.ErrorContains(t, err, "uia: Limiter is a nil *limit.Limiter")
	_, err = uia.ValidityHandler(nil, memstore.New(nil), nil)
	require.Error(t, err)
	_, err = uia.ValidityHandler(&uia.Engine{}, (*memstore.Store)(nil), nil)
	require.Error(t, err)
}

// misconfigured is a stage that reports two mistakes at once.
type misconfigured struct{ uia.DummyStage }

func (misconfigured) Type() string { return "two mistakes" }

func (misconfigured) Configured() error { return errors.Join(errors.New("one"), errors.New("two")) }

// A store may forget what is a day old, and no session may outlive that.
func TestNewRefusesSessionsThatOutliveTheirStore(t *testing.T) {
	_, err := uia.New(uia.Config{Secrets: uia.FixedSecrets(secret), Sessions: memstore.New(nil), SessionTTL: 12 * time.Hour})
	require.NoError(t, err)
	_, err = uia.New(uia.Config{Secrets: uia.FixedSecrets(secret), Sessions: memstore.New(nil), SessionTTL: 12*time.Hour + 1})
	require.ErrorContains(t, err, "SessionTTL is more than 12h0m0s")
}

func TestNewFlows(t *testing.T) {
	a, b, c := &probe{typ: "a"}, &probe{typ: "b"}, &probe{typ: "c"}
	for name, tc := range map[string]struct {
		flows    []uia.Flow
		anyOrder bool
		mistake  string
	}{
		"one":                    {flows: []uia.Flow{{"a"}}},
		"disjoint":               {flows: []uia.Flow{{"a"}, {"b", "c"}}},
		"same beginning":         {flows: []uia.Flow{{"a", "b"}, {"a", "c"}}},
		"a subset, in order":     {flows: []uia.Flow{{"b"}, {"a", "b"}}},
		"a prefix":               {flows: []uia.Flow{{"a", "b"}, {"a"}}, mistake: "beginning"},
		"a long prefix":          {flows: []uia.Flow{{"a", "b"}, {"a", "b", "c"}}, mistake: "beginning"},
		"twice":                  {flows: []uia.Flow{{"a", "b"}, {"c"}, {"a", "b"}}, mistake: "twice"},
		"a permutation":          {flows: []uia.Flow{{"a", "b"}, {"b", "a"}}},
		"a subset, any order":    {flows: []uia.Flow{{"b"}, {"a", "b"}}, anyOrder: true, mistake: "beginning"},
		"a permutation, any":     {flows: []uia.Flow{{"a", "b"}, {"b", "a"}}, anyOrder: true, mistake: "twice"},
		"an overlap, any order":  {flows: []uia.Flow{{"a", "b"}, {"b", "c"}}, anyOrder: true},
		"none, which is closed":  {},
		"an empty one":           {flows: []uia.Flow{{}}, mistake: "empty"},
		"a stage that is not on": {flows: []uia.Flow{{"a", "A"}}, mistake: "not registered"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := uia.New(uia.Config{
				Secrets: uia.FixedSecrets(secret), Sessions: memstore.New(nil), Stages: []uia.Stage{a, b, c},
				Operations: []uia.Operation{{Name: "op", Flows: tc.flows, AnyOrder: tc.anyOrder}},
			})
			if tc.mistake == "" {
				assert.NoError(t, err)
			} else {
				assert.ErrorContains(t, err, tc.mistake)
			}
		})
	}
}

func TestNewResolve(t *testing.T) {
	store := memstore.New(nil)
	build := func(o uia.Operation) error {
		o.Name = "op"
		_, err := uia.New(uia.Config{
			Secrets: uia.FixedSecrets(secret), Sessions: store, Stages: []uia.Stage{&uia.TokenStage{Store: store}, uia.DummyStage{}},
			Operations: []uia.Operation{o},
		})
		return err
	}
	flowsFor := func(context.Context, uia.Request) ([]uia.Flow, error) { return []uia.Flow{flowT}, nil }
	assert.ErrorContains(t, build(uia.Operation{Flows: []uia.Flow{flowT}}), "Resolve is required")
	assert.ErrorContains(t, build(uia.Operation{FlowsFor: flowsFor}), "Resolve is required")
	assert.NoError(t, build(uia.Operation{Flows: []uia.Flow{flowT}, Resolve: uia.NotDone}))
	assert.NoError(t, build(uia.Operation{Flows: []uia.Flow{{"m.login.dummy"}}}))
}

func TestNewOperationNames(t *testing.T) {
	for name, ok := range map[string]bool{
		"register": true, "a": true, "delete_device_2": true, strings.Repeat("a", 32): true,
		"": false, strings.Repeat("a", 33): false, "Register": false, "a.b": false, "a b": false, "é": false,
	} {
		_, err := uia.New(uia.Config{
			Secrets: uia.FixedSecrets(secret), Sessions: memstore.New(nil), Stages: []uia.Stage{uia.DummyStage{}},
			Operations: []uia.Operation{{Name: name, Flows: []uia.Flow{{"m.login.dummy"}}}},
		})
		assert.Equal(t, ok, err == nil, "%q: %v", name, err)
	}
}

func TestNewWarnsOfFlowsThatBeginWithNothing(t *testing.T) {
	warns := func(flow uia.Flow, change func(*uia.Operation)) bool {
		logger, out := logged()
		newHomeserver(t, setup{flows: []uia.Flow{flow}, change: func(c *uia.Config) {
			c.Logger = logger
			change(&c.Operations[0])
		}})
		return strings.Contains(out.String(), `everybody passes: each costs a database write" operation=register stage=m.login.dummy`)
	}
	asItIs := func(*uia.Operation) {}
	assert.True(t, warns(uia.Flow{"m.login.dummy"}, asItIs))
	assert.True(t, warns(uia.Flow{"m.login.dummy", uia.TokenType}, asItIs))
	assert.False(t, warns(flowTD, asItIs))
	assert.True(t, warns(flowTD, func(o *uia.Operation) { o.AnyOrder = true }), "dummy can come first")
	assert.True(t, warns(flowTD, func(o *uia.Operation) {
		o.Flows, o.FlowsFor = nil, func(context.Context, uia.Request) ([]uia.Flow, error) { return []uia.Flow{flowTD}, nil }
	}), "it is not known which flows there will be")
}

func TestNewCopiesTheFlows(t *testing.T) {
	flows := []uia.Flow{{uia.TokenType, "m.login.dummy"}}
	h := newHomeserver(t, setup{flows: flows})
	s := h.open(dict{})
	flows[0][0] = "m.login.dummy"
	h.post(dict{"auth": submitDummy(s)}).is(t, 401, "M_FORBIDDEN")
	assert.Equal(t, []any{uia.TokenType, "m.login.dummy"}, h.post(dict{}).JSON["flows"].([]any)[0].(dict)["stages"])
}

func TestNewNeedsNoLimiter(t *testing.T) {
	client := func(*http.Request) netip.Addr { return netip.Addr{} }
	h := newHomeserver(t, setup{change: func(c *uia.Config) { c.Client = client }})
	s := h.open(dict{})
	for range 100 {
		h.post(dict{"auth": submitToken(s, "guess")}).is(t, 401, "M_UNAUTHORIZED")
	}
}
