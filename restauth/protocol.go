package restauth

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/internal/canonical"
	"github.com/matrix-uia/uia/stages"
)

// Path is where a homeserver asks, below the URL of the service.
const Path = "/_matrix-internal/identity/v1/check_credentials"

// Verify tells whose password this is: stages.PasswordStage's Verify. It returns the user
// ID of the account that the identifier names if this is its password, and "" if it is
// not, or if there is no such user, in the same time.
type Verify = func(ctx context.Context, id stages.Identifier, password string) (userID string, err error)

// maxUserID is how long a user ID can be, in bytes.
const maxUserID = 255

// question is what a homeserver asks.
type question struct {
	userID   string // as it was asked for
	password string
}

// readQuestion reads the body of a request. The Synapse module names the user in id, other
// services in mxid or localpart; all that are there have to agree.
func readQuestion(body []byte, serverName string) (q question, err error) {
	// Who reads a member that is there twice may read another one than the homeserver.
	object, err := canonical.Object(body)
	switch {
	case errors.Is(err, canonical.ErrSyntax):
		return q, uia.NewError(http.StatusBadRequest, spec.NotJSON("The request body is not JSON."))
	case err != nil:
		return q, uia.NewError(http.StatusBadRequest, spec.BadJSON("The request body is not an object, or one that is not clear."))
	}
	var user json.RawMessage
	if ok, err := uia.Field(object, "user", &user); err != nil {
		return q, err
	} else if !ok {
		return q, missing("user")
	}
	if user[0] != '{' {
		return q, uia.NewError(http.StatusBadRequest, spec.BadJSON("The member user is not an object."))
	}
	var id, mxid, localpart string
	if err := uia.Fields(user, map[string]any{"id": &id, "mxid": &mxid, "localpart": &localpart, "password": &q.password}); err != nil {
		return q, err
	}
	if localpart != "" {
		localpart = userID(localpart, serverName)
	}
	for _, named := range []string{id, mxid, localpart} {
		switch {
		case named == "":
		case q.userID == "":
			q.userID = named
		case q.userID != named:
			return q, uia.NewError(http.StatusBadRequest, spec.InvalidParam("The members id, mxid and localpart name different users."))
		}
	}
	switch {
	case q.userID == "":
		return q, missing("user.id")
	case q.password == "":
		return q, missing("user.password")
	}
	return q, nil
}

func missing(member string) error {
	return uia.NewError(http.StatusBadRequest, spec.MissingParam("The member "+member+" is missing."))
}

// answer is what the service answers. The Synapse module reads the profile of every user
// who was found, and sets the name and the addresses that it has: so it is there, and
// empty. A name in it makes the module fail on a current Synapse.
type answer struct {
	Auth verdict `json:"auth"`
}

type verdict struct {
	Success bool     `json:"success"`
	MXID    string   `json:"mxid,omitempty"`
	Profile struct{} `json:"profile"`
}

// answerIn is an answer as others give it.
type answerIn struct {
	Auth *struct {
		Success *bool  `json:"success"`
		MXID    string `json:"mxid"`
	} `json:"auth"`
}

func userID(localpart, serverName string) string { return "@" + localpart + ":" + serverName }

// localpartOf returns the localpart of a user ID of the server; "" and false for any other.
func localpartOf(id, serverName string) (string, bool) {
	rest, sigil := strings.CutPrefix(id, "@")
	localpart, server, colon := strings.Cut(rest, ":")
	if !sigil || !colon || server != serverName || localpart == "" || len(id) > maxUserID {
		return "", false
	}
	return localpart, true
}

// possible reports whether an account can have this password; see CheckPassword. No other
// is hashed, or sent to anybody.
func possible(password string) bool { return CheckPassword(context.Background(), password) == nil }
