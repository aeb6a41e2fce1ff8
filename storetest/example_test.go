package storetest_test

import (
	"testing"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/memstore"
	"github.com/matrix-uia/uia/storetest"
)

// A store of one's own is put through the contract in a test. Here it is memstore.
func ExampleTestStore() {
	_ = func(t *testing.T) { // func TestStore(t *testing.T)
		storetest.TestStore(t, func(t *testing.T) uia.Store {
			return memstore.New(nil)
		})
	}
}
