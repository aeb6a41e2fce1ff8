package gateway

import (
	"net/http"
	"net/http/httputil"
	"net/netip"
	"slices"
)

// prefixes are the addresses of trusted proxies.
type prefixes []netip.Prefix

func (t prefixes) has(a netip.Addr) bool {
	return a.IsValid() && slices.ContainsFunc(t, func(p netip.Prefix) bool { return p.Contains(a) })
}

// peer returns the address at the other end of a request's connection.
func peer(r *http.Request) netip.Addr {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap().WithZone("")
}

// addressHeaders are headers by which proxies tell a client's address. A stranger's
// are not passed on, because an upstream may have been told to believe them.
var addressHeaders = []string{
	"X-Real-Ip", "X-Client-Ip", "X-Forwarded", "X-Original-Forwarded-For", "X-Cluster-Client-Ip", "X-Envoy-External-Address",
	"True-Client-Ip", "Cf-Connecting-Ip", "Fly-Client-Ip", "Cloudfront-Viewer-Address",
}

// forward sets the headers that tell the upstream who asks, and by which URL.
func (t prefixes) forward(p *httputil.ProxyRequest, client netip.Addr) {
	trusted := t.has(peer(p.In))
	if trusted {
		p.Out.Header["X-Forwarded-For"] = p.In.Header["X-Forwarded-For"]
	}
	p.SetXForwarded()
	if proto := p.In.Header.Get("X-Forwarded-Proto"); trusted && proto != "" {
		p.Out.Header.Set("X-Forwarded-Proto", proto)
	}
	if !trusted {
		for _, name := range addressHeaders {
			p.Out.Header.Del(name)
		}
	}
	if client.IsValid() {
		p.Out.Header.Set("X-Real-Ip", client.String())
	}
}
