package uia

import (
	"net/http"
	"net/netip"

	"github.com/matrix-uia/uia/internal/forwarded"
)

// ClientBehind returns a function for Config.Client, which returns the address of the
// client that sent a request: the other end of the connection or, if that is one of the
// trusted proxies, the address that the proxies name in X-Forwarded-For. Without trusted
// prefixes it is the other end of the connection.
//
// Each proxy appends to the header the address from which it got the request. So the
// header is read from its end, and only for as long as a trusted proxy has written it:
// what a stranger sends in it is ignored. The answer is the first address from the end
// that is no trusted proxy; if a trusted proxy names nobody ("unknown", or nothing at
// all), it is the address of that proxy. Several headers count as one list, ports are
// left out, and an IPv4 address is the same within an IPv6 one. The other end of a unix
// socket is this machine, ::1: trust that if it is a proxy.
//
// Trust only proxies that set this header themselves, and no prefix in which a client can
// have an address. Use [ClientForwarded] for proxies that set the header Forwarded: here
// it is ignored, because proxies that set X-Forwarded-For pass on the Forwarded of a
// stranger.
func ClientBehind(trusted ...netip.Prefix) func(*http.Request) netip.Addr {
	return forwarded.Behind(trusted)
}

// ClientForwarded is [ClientBehind] for proxies that set the header Forwarded (RFC 7239),
// and pass X-Forwarded-For on as a stranger sends it: so X-Forwarded-For is ignored.
func ClientForwarded(trusted ...netip.Prefix) func(*http.Request) netip.Addr {
	return forwarded.ByRFC7239(trusted)
}
