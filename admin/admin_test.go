package admin_test

import (
	"testing"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/internal/admintest"
	"github.com/matrix-uia/uia/memstore"
)

func TestOverMemory(t *testing.T) {
	admintest.Run(t, func(testing.TB) uia.TokenStore { return memstore.New(nil) })
}
