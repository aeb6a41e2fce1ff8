package record

import (
	"crypto/hmac"

	"github.com/matrix-uia/uia/internal/seal"
)

// Client is what a request shows of the client that sends it.
type Client struct {
	Keys   *seal.Keys
	Key    string // Session.Key
	Body   []byte // canonical
	Params []byte // the body without auth
	User   bool   // the request has the access token of the session's user
}

// Sign records that the operation runs for this client, with these parameters.
func (d *Data) Sign(c Client, params []byte) {
	d.Request, d.Sent = c.Keys.MAC(c.Key, c.Body), nil
	if HasMembers(params) {
		d.Sent = c.Keys.MAC(c.Key, params)
	}
}

// RanFor reports whether the request proves to come from the client for which the
// operation was run: it is the same request, or brings the same parameters, or brings
// none and has the access token of the same user. A session ID alone proves nothing,
// because the logs of proxies have it.
func (d *Data) RanFor(c Client) bool {
	switch {
	case hmac.Equal(d.Request, c.Keys.MAC(c.Key, c.Body)):
		return true
	case HasMembers(c.Params):
		return d.Sent != nil && hmac.Equal(d.Sent, c.Keys.MAC(c.Key, c.Params))
	}
	return c.User
}
