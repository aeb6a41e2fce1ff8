package limit

import (
	"encoding/binary"
	"net/netip"
)

// Wide is how many budgets an IPv6 /48 has.
const Wide = 8

// nat64 are the addresses under which a translator shows IPv4 clients (RFC 6052).
var nat64 = netip.MustParsePrefix("64:ff9b::/96")

// Units returns what a guess is charged to: an IPv4 address or an IPv6 /64, and of an
// IPv6 client the /48 as well; of others wide is not valid. It is false for what cannot
// be the address of a client. A limiter of your own can use it to draw the same line
// between customers as this package.
func Units(client netip.Addr) (narrow, wide netip.Prefix, ok bool) {
	client = client.Unmap().WithZone("")
	if nat64.Contains(client) {
		b := client.As16()
		client = netip.AddrFrom4([4]byte(b[12:]))
	}
	switch {
	case !client.IsValid() || client.IsUnspecified():
		return narrow, wide, false
	case client.Is4():
		return netip.PrefixFrom(client, 32), wide, true
	}
	return netip.PrefixFrom(client, 64).Masked(), netip.PrefixFrom(client, 48).Masked(), true
}

// key is what a budget is kept under: a prefix without its length.
type key struct{ hi, lo uint64 }

func keyOf(p netip.Prefix) key {
	b := p.Addr().As16()
	return key{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}
