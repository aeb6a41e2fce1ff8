package gateway

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia"
)

const (
	// defaultAdminTTL is the default of Admins.TTL.
	defaultAdminTTL = 10 * time.Second
	// maxAdmins bounds how many access tokens are remembered.
	maxAdmins = 1000
)

// Admins decides who may manage registration tokens: users of the upstream, by their
// access tokens. It is safe for concurrent use.
type Admins struct {
	// Client asks the upstream. Required.
	Client *Client
	// Users are the user IDs of administrators, in addition to what Probe says.
	Users []string
	// Probe finds out whether the upstream takes a user for an administrator. The
	// zero value leaves it to Users.
	Probe AdminProbe
	// TTL is for how long an answer is remembered, and so how long a token that was
	// logged out still works. Zero means 10 seconds; negative remembers nothing.
	TTL time.Duration

	mu    sync.Mutex
	known map[[sha256.Size]byte]adminAnswer
}

// AdminProbe is a request to the upstream, with the user's own access token, that
// tells administrators from others. SynapseAdmins and DendriteAdmins are probes.
type AdminProbe struct {
	// Path returns the path of a GET that succeeds for administrators.
	Path func(userID string) string
	// Accept looks at the answer. Nil accepts every success.
	Accept func(answer map[string]any) bool
}

// SynapseAdmins asks Synapse.
var SynapseAdmins = AdminProbe{
	Path:   func(userID string) string { return "/_synapse/admin/v1/users/" + url.PathEscape(userID) + "/admin" },
	Accept: func(answer map[string]any) bool { return answer["admin"] == true },
}

// DendriteAdmins asks Dendrite.
var DendriteAdmins = AdminProbe{Path: func(string) string { return "/_dendrite/admin/registrationTokens" }}

type adminAnswer struct {
	user  string
	err   error
	until time.Time
}

// Authorize returns the user ID of the administrator who sent the request, for
// [Options.Authorize]. It fails with 401 M_MISSING_TOKEN, 401 M_UNKNOWN_TOKEN and 403
// M_FORBIDDEN, as tools expect, and with another error if the upstream does not tell.
// It reads no cookie.
func (a *Admins) Authorize(r *http.Request) (string, error) {
	token, ok := bearer(r)
	if !ok {
		return "", errMissingToken
	}
	key := sha256.Sum256([]byte(token))
	a.mu.Lock()
	known, hit := a.known[key]
	a.mu.Unlock()
	if hit && time.Now().Before(known.until) {
		return known.user, known.err
	}
	user, err := a.ask(r.Context(), token)
	if err == nil || isRefusal(err) {
		a.remember(key, user, err)
	}
	return user, err
}

func bearer(r *http.Request) (string, bool) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	token = strings.TrimSpace(token)
	return token, strings.EqualFold(scheme, "Bearer") && token != ""
}

func (a *Admins) remember(key [sha256.Size]byte, user string, err error) {
	ttl := a.TTL
	switch {
	case ttl < 0:
		return
	case ttl == 0:
		ttl = defaultAdminTTL
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.known == nil || len(a.known) >= maxAdmins {
		a.known = make(map[[sha256.Size]byte]adminAnswer)
	}
	a.known[key] = adminAnswer{user, err, time.Now().Add(ttl)}
}

var errNoAdmin = uia.NewError(http.StatusForbidden, spec.Forbidden("You are not a server admin"))

// ask asks the upstream who it is, and whether that is an administrator.
func (a *Admins) ask(ctx context.Context, token string) (string, error) {
	who, err := a.Client.whoami(ctx, token)
	switch {
	case status(err) == http.StatusForbidden:
		return "", errNoAdmin
	case err != nil:
		return "", err
	case slices.Contains(a.Users, who.UserID):
		return who.UserID, nil
	case a.Probe.Path == nil || who.Guest:
		return "", errNoAdmin
	}
	var answer map[string]any
	err = a.Client.do(ctx, call{method: http.MethodGet, path: a.Probe.Path(who.UserID), token: token}, &answer)
	switch {
	case err == nil && (a.Probe.Accept == nil || a.Probe.Accept(answer)):
		return who.UserID, nil
	case err == nil || refused(err):
		return "", errNoAdmin // also if the upstream has no such endpoint
	}
	return "", fmt.Errorf("gateway: asking the upstream for its administrators: %w", err)
}
