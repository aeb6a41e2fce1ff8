package memstore_test

import (
	"testing"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/memstore"
	"github.com/matrix-uia/uia/storetest"
)

func TestStore(t *testing.T) {
	storetest.TestStore(t, func(*testing.T) uia.Store { return memstore.New(nil) })
}

func BenchmarkStore(b *testing.B) {
	// Nothing of a benchmark ever expires.
	storetest.Benchmark(b, func(*testing.B) uia.Store {
		return memstore.New(&memstore.Options{MaxUses: 1 << 30, MaxSessions: 1 << 30})
	})
}
