package hs

import (
	"context"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/matrix-uia/uia"
)

// metrics counts events for Prometheus. The labels have few values: neither tokens
// nor users nor addresses are among them.
type metrics struct {
	registry *prometheus.Registry
	events   *prometheus.CounterVec
	failures *prometheus.CounterVec
}

func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "uia_events_total", Help: "Events of User-Interactive Authentication and of token administration.",
		}, []string{"event"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "uia_stage_failures_total", Help: "Refused attempts of an authentication stage.",
		}, []string{"stage", "errcode"}),
	}
	m.registry.MustRegister(m.events, m.failures, collectors.NewGoCollector())
	// A counter that is there from the start lets a rule tell "none" from "not known".
	for _, kind := range uia.EventKinds() {
		m.events.WithLabelValues(string(kind))
	}
	return m
}

// observe is an observer of package uia.
func (m *metrics) observe(_ context.Context, ev uia.Event) {
	m.events.WithLabelValues(string(ev.Kind)).Inc()
	if ev.Kind == uia.EventStageFailed {
		m.failures.WithLabelValues(ev.Stage, string(ev.ErrCode)).Inc()
	}
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}
