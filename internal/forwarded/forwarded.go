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
