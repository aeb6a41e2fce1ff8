package hs

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/matrix-uia/uia/uiaprometheus"
)

// metrics counts events for Prometheus.
type metrics struct {
	*uiaprometheus.Metrics
	registry *prometheus.Registry
}

func newMetrics() *metrics {
	m := &metrics{Metrics: uiaprometheus.New(), registry: prometheus.NewRegistry()}
	m.registry.MustRegister(m.Metrics, collectors.NewGoCollector())
	return m
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}
