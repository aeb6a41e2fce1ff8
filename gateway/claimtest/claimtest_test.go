package claimtest

import (
	"testing"

	"github.com/matrix-uia/uia/gateway"
)

func TestMemoryClaims(t *testing.T) {
	Test(t, func(*testing.T) gateway.ClaimStore { return &gateway.MemoryClaims{} }, nil)
}
