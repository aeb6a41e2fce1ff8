package restauth

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"strings"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/internal/forwarded"
	"github.com/matrix-uia/uia/internal/wire"
)

// minSecret is how long a secret is at least, in bytes.
const minSecret = 16

// callers are who may ask.
type callers struct {
	secret   [sha256.Size]byte
	hasOne   bool
	networks forwarded.Prefixes
}

var (
	errNoSecret = uia.NewError(http.StatusUnauthorized, spec.MatrixError{
		ErrCode: wire.CodeUnauthorized, Err: "The secret that this service shares with the homeserver is missing, or wrong."})
	errElsewhere = uia.NewError(http.StatusForbidden, spec.Forbidden("This service answers its homeserver alone."))
)

// admit returns nil if the request is from somebody who may ask.
func (c *callers) admit(r *http.Request) error {
	if len(c.networks) > 0 {
		// What a proxy passes on comes from the proxy's address, whoever has sent it.
		passedOn := r.Header["X-Forwarded-For"] != nil || r.Header["Forwarded"] != nil || r.Header["Via"] != nil
		if !c.networks.Has(forwarded.Peer(r)) || passedOn && !c.hasOne {
			return errElsewhere
		}
	}
	if !c.hasOne {
		return nil
	}
	sent := sha256.Sum256([]byte(secretOf(r)))
	if subtle.ConstantTimeCompare(sent[:], c.secret[:]) != 1 {
		return errNoSecret
	}
	return nil
}

// secretOf returns the secret that a request has: the password of its Basic
// authentication, whoever the user is, or its Bearer token.
func secretOf(r *http.Request) string {
	if _, password, ok := r.BasicAuth(); ok {
		return password
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(token)
	}
	return ""
}
