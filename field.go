package uia

import (
	"encoding/json"
	"net/http"
	"strconv"

	"github.com/matrix-org/gomatrixserverlib/spec"
)

var errNotObject = NewError(http.StatusBadRequest, spec.BadJSON("The request body is not a JSON object."))

// Field decodes one member of a JSON object: of the auth data that a Stage gets,
// or of Session.Params. Unlike encoding/json on a struct it matches the name
// exactly: the members of a request are case sensitive. It reports whether the
// member is there and not null; a value that into cannot hold is 400 M_BAD_JSON.
func Field(object json.RawMessage, name string, into any) (bool, error) {
	var all map[string]json.RawMessage
	if len(object) > 0 {
		if err := json.Unmarshal(object, &all); err != nil {
			return false, errNotObject
		}
	}
	return decodeMember(all[name], name, into)
}

func decodeMember(value json.RawMessage, name string, into any) (bool, error) {
	if value == nil || string(value) == "null" {
		return false, nil
	}
	if err := json.Unmarshal(value, into); err != nil {
		return false, &Error{
			Status:      http.StatusBadRequest,
			MatrixError: spec.BadJSON("The member " + strconv.Quote(name) + " has the wrong type."),
		}
	}
	return true, nil
}
