package uiaprometheus_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/expfmt"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/memstore"
	"github.com/matrix-uia/uia/uiaprometheus"
)

// text returns what Prometheus is told.
func text(t *testing.T, registry *prometheus.Registry) string {
	t.Helper()
	families, err := registry.Gather()
	require.NoError(t, err)
	var out bytes.Buffer
	for _, family := range families {
		_, err := expfmt.MetricFamilyToText(&out, family)
		require.NoError(t, err)
	}
	return out.String()
}

func TestMetrics(t *testing.T) {
	metrics := uiaprometheus.New()
	registry := prometheus.NewRegistry()
	require.NoError(t, registry.Register(metrics))
	problems, err := testutil.GatherAndLint(registry)
	require.NoError(t, err)
	require.Empty(t, problems)
	for _, kind := range uia.EventKinds() {
		require.Contains(t, text(t, registry), fmt.Sprintf("uia_events_total{event=%q} 0\n", kind))
	}

	store := memstore.New(nil)
	require.NoError(t, store.CreateTokens(t.Context(), uia.Token{Value: "the-token", UsesAllowed: new(int64(1))}, uia.Token{Value: "old", Expires: time.Now().Add(-time.Hour)}))
	engine, err := uia.New(uia.Config{
		Secrets: uia.FixedSecrets(bytes.Repeat([]byte("s"), 32)), Sessions: store, Observer: metrics.Observe,
		Stages:     []uia.Stage{&uia.TokenStage{Store: store}},
		Operations: []uia.Operation{{Name: "register", Flows: []uia.Flow{{uia.TokenType}}, Resolve: uia.NotDone}},
	})
	require.NoError(t, err)
	guess := func(token string) {
		body, err := json.Marshal(map[string]any{"auth": map[string]string{"type": uia.TokenType, "token": token}})
		require.NoError(t, err)
		_, err = engine.Authenticate(t.Context(), uia.Request{
			Operation: "register", Subject: "@alice:test", Client: netip.MustParseAddr("192.0.2.7"), Body: body,
		})
		if token != "the-token" {
			require.Error(t, err)
		}
	}
	guess("wrong")
	guess("wrong too")
	guess("old")
	guess("the-token")
	told := text(t, registry)
	for _, line := range []string{
		`uia_events_total{event="stage_failed"} 3`, `uia_events_total{event="use_held"} 1`, `uia_events_total{event="use_spent"} 0`,
		`uia_stage_failures_total{errcode="M_UNAUTHORIZED",reason="not found",stage="m.login.registration_token"} 1`,
		`uia_stage_failures_total{errcode="M_UNAUTHORIZED",reason="",stage="m.login.registration_token"} 1`, // it could be no token
		`uia_stage_failures_total{errcode="M_UNAUTHORIZED",reason="token expired",stage="m.login.registration_token"} 1`,
	} {
		require.Contains(t, told, line+"\n")
	}
	for _, secret := range []string{"the-token", uia.Fingerprint("the-token"), "alice", "192.0.2.7", "register."} {
		require.False(t, strings.Contains(told, secret), "%s is no label", secret)
	}
}
