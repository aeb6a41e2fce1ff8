package limit

import (
	"encoding/binary"
	"net/netip"
)

// key is what a budget is kept under: an IPv4 address mapped to IPv6, an IPv6 address
// without its lower half, or the first three groups of one.
type key struct{ hi, lo uint64 }

// client is whom a guess is charged to.
type client struct {
	narrow key
	wide   key // of an IPv6 client
	six    bool
}

// nat64 are the addresses under which a translator shows IPv4 clients (RFC 6052).
var nat64 = netip.MustParsePrefix("64:ff9b::/96")

// clientOf is false for what cannot be the address of a client.
func clientOf(a netip.Addr) (client, bool) {
	a = a.Unmap()
	if nat64.Contains(a.WithZone("")) {
		b := a.As16()
		a = netip.AddrFrom4([4]byte(b[12:]))
	}
	if !a.IsValid() || a.IsUnspecified() {
		return client{}, false
	}
	b := a.As16()
	hi, lo := binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])
	if a.Is4() {
		return client{narrow: key{hi, lo}}, true
	}
	return client{narrow: key{hi, 0}, wide: key{hi &^ 0xffff, 0}, six: true}, true
}
