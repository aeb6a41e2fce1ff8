package conformance

import (
	"net/http"
	"strings"
)

// offersMutants are without an endpoint each.
var offersMutants = []mutant{
	unserved("validity", (*exchange).validity),
	unserved("available", func(x *exchange) bool { return strings.HasSuffix(x.path(), "/available") }),
	unserved("fallback", (*exchange).fallback),
	unserved("whoami", func(x *exchange) bool { return strings.HasSuffix(x.path(), "/whoami") }),
	unserved("login", func(x *exchange) bool { return strings.HasSuffix(x.path(), "/login") }),
	unserved("versions", func(x *exchange) bool { return strings.HasSuffix(x.path(), "/versions") }),
	unserved("devices", func(x *exchange) bool { return strings.Contains(x.path(), "/devices/") }),
	unserved("admin", (*exchange).admin),
}

// unserved answers what is sent to an endpoint as if it were not there.
func unserved(endpoint string, at func(*exchange) bool) mutant {
	return mutant{name: "does not serve " + endpoint, answer: func(_ *backend, x *exchange) {
		if at(x) {
			x.refuse(http.StatusNotFound, "M_UNRECOGNIZED")
		}
	}}
}
