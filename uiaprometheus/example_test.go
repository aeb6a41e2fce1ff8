package uiaprometheus_test

import (
	"bytes"
	"fmt"
	"log"
	"net/http/httptest"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/memstore"
	"github.com/matrix-uia/uia/uiaprometheus"
)

// A homeserver counts what happens, and shows it to Prometheus.
func Example() {
	metrics := uiaprometheus.New()
	registry := prometheus.NewRegistry()
	registry.MustRegister(metrics)
	_, err := uia.New(uia.Config{
		Secrets:  uia.FixedSecrets(bytes.Repeat([]byte("s"), 32)), // from crypto/rand, in a real homeserver
		Sessions: memstore.New(nil),
		Observer: metrics.Observe,
	})
	if err != nil {
		log.Fatal(err)
	}

	w := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	fmt.Println(strings.Count(w.Body.String(), "uia_events_total{"))
	// Output: 9
}
