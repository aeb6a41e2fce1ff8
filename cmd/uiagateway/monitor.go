package main

import (
	"context"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// checkEvery is how often the gateway looks at the homeserver.
const checkEvery = 5 * time.Minute

// monitor is what the operator's monitoring sees.
type monitor struct {
	g        *gate
	severe   atomic.Int64 // findings of the last check
	stopping atomic.Bool
}

// handler serves /metrics and /healthz.
func (m *monitor) handler() http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(m.g.metrics, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "uiagateway_severe_findings",
			Help: "What the last look at the homeserver has found by which people get an account without a token, or none with one.",
		}, func() float64 { return float64(m.severe.Load()) }))
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		status, text := http.StatusOK, "ok"
		if err := m.ready(r.Context()); err != nil {
			status, text = http.StatusServiceUnavailable, err.Error()
		}
		w.WriteHeader(status)
		fmt.Fprintln(w, text)
	})
	return mux
}

// ready says why the gateway cannot register anybody.
func (m *monitor) ready(ctx context.Context) error {
	if m.stopping.Load() {
		return fmt.Errorf("stopping")
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if err := m.g.db.PingContext(ctx); err != nil {
		return fmt.Errorf("the database does not answer")
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, m.g.client.URL+"/_matrix/client/versions", nil)
	if err != nil {
		return err
	}
	res, err := m.g.public.Do(r)
	if err != nil {
		return fmt.Errorf("the homeserver does not answer")
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("the homeserver answers %s", res.Status)
	}
	return nil
}

// watch looks at the homeserver at once and then every few minutes, and logs what has
// changed: what it finds for the first time, and when that is gone.
func (m *monitor) watch(ctx context.Context) {
	tick := time.NewTicker(checkEvery)
	defer tick.Stop()
	known := map[string]bool{}
	for {
		found, severe := map[string]bool{}, int64(0)
		for _, f := range m.g.check(ctx) {
			if found[f.Text] = true; f.Severe {
				severe++
			}
			switch {
			case known[f.Text]:
			case f.Severe:
				m.g.log.ErrorContext(ctx, "homeserver: "+f.Text)
			default:
				m.g.log.WarnContext(ctx, "homeserver: "+f.Text)
			}
		}
		if ctx.Err() != nil {
			return
		}
		for text := range known {
			if !found[text] {
				m.g.log.InfoContext(ctx, "homeserver: no longer so: "+text)
			}
		}
		known = found
		m.severe.Store(severe)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
