package uia

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
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
	return behind(trusted, "X-Forwarded-For", func(element string) string { return element })
}

// ClientForwarded is [ClientBehind] for proxies that set the header Forwarded (RFC 7239),
// and pass X-Forwarded-For on as a stranger sends it: so X-Forwarded-For is ignored.
func ClientForwarded(trusted ...netip.Prefix) func(*http.Request) netip.Addr {
	return behind(trusted, "Forwarded", forwardedFor)
}

// behind returns a function that goes through a header from its end. node returns the
// client that an element of it names.
func behind(trusted []netip.Prefix, header string, node func(element string) string) func(*http.Request) netip.Addr {
	prefixes := make([]netip.Prefix, len(trusted))
	for i, p := range trusted {
		if p.Addr().Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		prefixes[i] = p
	}
	trusts := func(a netip.Addr) bool {
		return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
	}
	return func(r *http.Request) netip.Addr {
		addr, ok := peer(r)
		if !ok || !trusts(addr) {
			return addr
		}
		for _, line := range slices.Backward(r.Header.Values(header)) {
			for more := true; more; {
				var element string
				line, element, more = cutLast(line)
				next, ok := parseNode(node(element))
				if !ok {
					return addr
				}
				if addr = next; !trusts(addr) {
					return addr
				}
			}
		}
		return addr
	}
}

// peer returns the address of the other end of the connection.
func peer(r *http.Request) (netip.Addr, bool) {
	if r.RemoteAddr == "@" || r.RemoteAddr == "" { // how net/http calls a unix socket
		return netip.IPv6Loopback(), true
	}
	return parseNode(r.RemoteAddr)
}

// cutLast cuts the last element off a list that is separated by commas, except in quoted
// strings. It begins at the end, because that is what a trusted proxy has written: a
// stranger could have opened a quotation before it.
func cutLast(list string) (before, last string, more bool) {
	quoted := false
	for i := len(list) - 1; i >= 0; i-- {
		switch {
		case list[i] == '"':
			quoted = !quoted
		case list[i] == ',' && !quoted:
			return list[:i], list[i+1:], true
		}
	}
	return "", list, false
}

// forwardedFor returns the parameter "for" of an element of Forwarded; "" if it has none,
// or more than one.
func forwardedFor(element string) string {
	found := ""
	for pair := range strings.SplitSeq(element, ";") { // no address has a semicolon, quoted or not
		name, value, _ := strings.Cut(strings.TrimSpace(pair), "=")
		if !strings.EqualFold(name, "for") {
			continue
		}
		if found != "" {
			return ""
		}
		found = strings.TrimSuffix(strings.TrimPrefix(value, `"`), `"`)
	}
	return found
}

// parseNode reads an address as connections and proxies write it: alone, with a port, an
// IPv6 address in brackets or not.
func parseNode(s string) (netip.Addr, bool) {
	s = strings.TrimSpace(s)
	addr, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]"))
	if err != nil {
		var withPort netip.AddrPort
		if withPort, err = netip.ParseAddrPort(s); err != nil {
			return netip.Addr{}, false
		}
		addr = withPort.Addr()
	}
	return addr.Unmap().WithZone(""), true
}
