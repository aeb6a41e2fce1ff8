package uia_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/internal/wire"
)

// noStore fails the benchmark if the engine calls it at all: a first leg must
// not cost the store anything.
type noStore struct {
	uia.Store
	b testing.TB
}

func (s noStore) LoadSession(context.Context, string, time.Time) (uia.Record, error) {
	s.b.Error("the first leg read the store")
	return uia.Record{}, uia.ErrNotFound
}

func (s noStore) SaveSession(context.Context, uia.Record, time.Time) (uia.Record, error) {
	s.b.Error("the first leg wrote to the store")
	return uia.Record{}, uia.ErrConflict
}

const fullBody = `{"username":"alice","password":"correct horse battery staple","device_id":"GHTYAJCE","initial_device_display_name":"Jungle Phone"}`

func firstLegEngine(b testing.TB) *uia.Engine {
	store := noStore{nil, b}
	e, err := uia.New(uia.Config{
		Secrets:  uia.FixedSecrets(secret),
		Sessions: store,
		Stages:   []uia.Stage{&uia.TokenStage{Store: store}, uia.DummyStage{}},
		Operations: []uia.Operation{{
			Name: "register", Flows: []uia.Flow{flowTD}, Mutable: true, Resolve: uia.NotDone,
			Remember: []string{"username", "password", "device_id", "initial_device_display_name"},
		}},
	})
	if err != nil {
		b.Fatal(err)
	}
	return e
}

// BenchmarkFirstLeg is the request that opens a session, in process: what an
// anonymous flood costs.
func BenchmarkFirstLeg(b *testing.B) {
	for name, body := range map[string]string{"empty": "", "params": fullBody} {
		b.Run(name, func(b *testing.B) {
			e := firstLegEngine(b)
			r := uia.Request{Operation: "register", Body: []byte(body)}
			ctx := b.Context()
			b.ReportAllocs()
			for b.Loop() {
				_, err := e.Authenticate(ctx, r)
				challenge, ok := errors.AsType[*uia.Challenge](err)
				if !ok {
					b.Fatal(err)
				}
				if _, err := challenge.MarshalJSON(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkFirstLegHTTP compares the first leg over HTTP with a handler that
// reads the body and writes a fixed 401 of the same length. The two take turns,
// so that both meet the same noise; the ratio is the median of five.
func BenchmarkFirstLegHTTP(b *testing.B) {
	e := firstLegEngine(b)
	var fixed []byte
	guarded := func(w http.ResponseWriter, r *http.Request) {
		e.Serve(w, r, uia.Caller{Operation: "register"}, nil)
	}
	w := httptest.NewRecorder()
	guarded(w, httptest.NewRequest("POST", "/register", strings.NewReader(fullBody)))
	fixed = w.Body.Bytes()
	plain := func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		wire.SetCORS(w.Header())
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = w.Write(fixed)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /guarded", guarded)
	mux.HandleFunc("POST /plain", plain)
	server := httptest.NewServer(mux)
	defer server.Close()
	client := server.Client()
	run := func(path string, n int) time.Duration {
		start := time.Now()
		for range n {
			resp, err := client.Post(server.URL+path, "application/json", strings.NewReader(fullBody))
			if err != nil {
				b.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			if resp.StatusCode != http.StatusUnauthorized {
				b.Fatal(resp.Status)
			}
		}
		return time.Since(start)
	}
	const slice = 100 // requests in a row before the other's turn
	run("/guarded", slice)
	run("/plain", slice)
	var ratios []float64
	for b.Loop() {
		ratios = ratios[:0]
		for range 5 {
			var plainTime, guardedTime time.Duration
			for range 20 {
				plainTime += run("/plain", slice)
				guardedTime += run("/guarded", slice)
			}
			ratios = append(ratios, plainTime.Seconds()/guardedTime.Seconds())
		}
	}
	slices.Sort(ratios)
	b.ReportMetric(ratios[2], "ratio")
	b.ReportMetric(0, "ns/op")
	b.Logf("throughput as a share of a fixed 401, five times: %.2f", ratios)
}
