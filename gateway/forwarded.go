package gateway

import (
	"net/http/httputil"
	"net/netip"

	"github.com/matrix-uia/uia/internal/forwarded"
)

// addressHeaders are headers by which proxies tell a client's address. A stranger's
// are not passed on, because an upstream may have been told to believe them.
var addressHeaders = []string{
	"X-Real-Ip", "X-Client-Ip", "X-Forwarded", "X-Original-Forwarded-For", "X-Cluster-Client-Ip", "X-Envoy-External-Address",
	"True-Client-Ip", "Cf-Connecting-Ip", "Fly-Client-Ip", "Cloudfront-Viewer-Address",
}

// forward sets the headers that tell the upstream who asks, and by which URL. What
// trusted proxies have written is kept.
func forward(p *httputil.ProxyRequest, proxies forwarded.Prefixes, client netip.Addr) {
	trusted := proxies.Has(forwarded.Peer(p.In))
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
