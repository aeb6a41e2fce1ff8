package limit

import (
	"encoding/binary"
	"net/netip"
)

// clientKey is an IPv4 address mapped to IPv6, or an IPv6 address without its
// lower half.
type clientKey struct{ hi, lo uint64 }

// keyOf returns what the client's budget is kept under. It is false for what
// cannot be the address of a client.
func keyOf(client netip.Addr) (clientKey, bool) {
	client = client.Unmap()
	if !client.IsValid() || client.IsUnspecified() {
		return clientKey{}, false
	}
	a := client.As16()
	key := clientKey{hi: binary.BigEndian.Uint64(a[:8])}
	if client.Is4() {
		key.lo = binary.BigEndian.Uint64(a[8:])
	}
	return key, true
}
