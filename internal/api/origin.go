package api

import (
	"net/http"
	"strings"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia"
)

var crossOrigin = http.NewCrossOriginProtection()

// SameOrigin refuses what a page of another origin could have made a browser send,
// without the user's knowing, with the credentials that browsers send by themselves. A
// page that sets the Authorization header must know the access token: that is allowed,
// because web interfaces are often on other origins.
func SameOrigin(r *http.Request) error {
	scheme, _, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if strings.EqualFold(scheme, "Bearer") || crossOrigin.Check(r) == nil {
		return nil
	}
	return uia.NewError(http.StatusForbidden, spec.Forbidden("A page of another origin has to send an access token"))
}
