// Package uiaprometheus counts the events of package uia for Prometheus.
//
//	metrics := uiaprometheus.New()
//	prometheus.MustRegister(metrics)
//	engine, err := uia.New(uia.Config{Observer: metrics.Observe, ...})
//	tokens, err := admin.Handler(store, authorize, &admin.Options{Observer: metrics.Observe, ...})
//
// # Metrics
//
// uia_events_total counts events, with the label
//
//   - event: the kind, such as "use_spent": all of [uia.EventKinds], each from zero on, so
//     that a rule can tell "none" from "not known".
//
// uia_stage_failures_total counts the attempts of stages that were refused in a way that
// is charged to the client, with the labels
//
//   - stage: the auth type, such as "m.login.registration_token";
//   - errcode: what the client was told, such as "M_UNAUTHORIZED";
//   - reason: what a store said, such as "token expired", and "" if it was no store.
//
// The values of a label are few: they come from the homeserver's own configuration.
// Neither tokens nor users, sessions or addresses are among them.
//
// A sudden rise of uia_events_total{event="limit_hit"} is somebody who guesses tokens.
// Accounts made with tokens are uia_events_total{event="use_spent"}, and uses that were
// held and came to nothing are the difference between use_held and use_spent.
package uiaprometheus

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/matrix-uia/uia"
)

// Metrics counts events. It is a prometheus.Collector, and safe for concurrent use.
type Metrics struct {
	events   *prometheus.CounterVec
	failures *prometheus.CounterVec
}

var _ prometheus.Collector = (*Metrics)(nil)

// New returns Metrics that have counted nothing. They are registered with a registry by
// the caller; those of several engines in one process are one Metrics.
func New() *Metrics {
	m := &Metrics{
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "uia_events_total", Help: "Events of User-Interactive Authentication and of token administration.",
		}, []string{"event"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "uia_stage_failures_total", Help: "Attempts of an authentication stage that were refused and charged to the client.",
		}, []string{"stage", "errcode", "reason"}),
	}
	for _, kind := range uia.EventKinds() {
		m.events.WithLabelValues(string(kind))
	}
	return m
}

// Observe is an observer, for uia.Config and admin.Options.
func (m *Metrics) Observe(_ context.Context, ev uia.Event) {
	m.events.WithLabelValues(string(ev.Kind)).Inc()
	if ev.Kind == uia.EventStageFailed {
		m.failures.WithLabelValues(ev.Stage, string(ev.ErrCode), ev.Reason).Inc()
	}
}

// Describe implements [prometheus.Collector].
func (m *Metrics) Describe(out chan<- *prometheus.Desc) {
	m.events.Describe(out)
	m.failures.Describe(out)
}

// Collect implements [prometheus.Collector].
func (m *Metrics) Collect(out chan<- prometheus.Metric) {
	m.events.Collect(out)
	m.failures.Collect(out)
}
