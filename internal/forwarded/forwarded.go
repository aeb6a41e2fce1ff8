// Package forwarded tells from the headers of proxies which client has sent a request.
package forwarded

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// Behind returns a function that returns the address of the client, as proxies at the
// trusted prefixes write it into X-Forwarded-For; see uia.ClientBehind.
func Behind(trusted []netip.Prefix) func(*http.Request) netip.Addr {
	return behind(trusted, "X-Forwarded-For", func(element string) string { return element })
}

// ByRFC7239 is Behind for proxies that write the header Forwarded.
func ByRFC7239(trusted []netip.Prefix) func(*http.Request) netip.Addr {
	return behind(trusted, "Forwarded", forwardedFor)
}

// behind returns a function that goes through a header from its end. node returns the
// client that an element of it names.
func behind(trusted []netip.Prefix, header string, node func(element string) string) func(*http.Request) netip.Addr {
	proxies := PrefixesOf(trusted)
	return func(r *http.Request) netip.Addr {
		addr := Peer(r)
		if !proxies.Has(addr) {
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
				if addr = next; !proxies.Has(addr) {
					return addr
				}
			}
		}
		return addr
	}
}

// Peer returns the address of the other end of a request's connection, IPv4 unmapped and
// without a zone; of a unix socket, whose other end has none, this machine's. It is not
// valid if it is not known.
func Peer(r *http.Request) netip.Addr {
	if r.RemoteAddr == "@" || r.RemoteAddr == "" { // how net/http calls a unix socket
		return netip.IPv6Loopback()
	}
	addr, _ := parseNode(r.RemoteAddr)
	return addr
}

// Prefixes are networks. An IPv4 network is the same within an IPv6 one.
type Prefixes []netip.Prefix

// PrefixesOf returns the networks that somebody has configured, who may have written an
// IPv4 one as IPv6.
func PrefixesOf(configured []netip.Prefix) Prefixes {
	out := make(Prefixes, len(configured))
	for i, p := range configured {
		if p.Addr().Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		out[i] = p
	}
	return out
}

// Has reports whether an address, such as Peer's, is in one of the networks.
func (n Prefixes) Has(addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	return slices.ContainsFunc(n, func(p netip.Prefix) bool { return p.Contains(addr) })
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
