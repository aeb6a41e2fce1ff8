package uia

import (
	"encoding/json"
	"net/http"
	"strconv"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia/internal/canonical"
)

var errNotObject = NewError(http.StatusBadRequest, spec.BadJSON("The request body is not a JSON object."))

// Field decodes one member of a JSON object: of the auth data that a Stage gets,
// or of Session.Params. Unlike encoding/json on a struct it matches the name
// exactly: the members of a request are case sensitive. It reports whether the
// member is there and not null; a value that into cannot hold is 400 M_BAD_JSON.
func Field(object json.RawMessage, name string, into any) (bool, error) {
	var found json.RawMessage
	err := eachField(object, func(member, value []byte) error {
		if string(member) == name {
			found = value // the last of several, as for encoding/json
		}
		return nil
	})
	if err != nil {
		return false, err
	}
	return decodeMember(found, name, into)
}

// Fields is Field for several members, by their names, and reads the object once
// instead of once for each. What is absent or null leaves its value as it is.
func Fields(object json.RawMessage, into map[string]any) error {
	return eachField(object, func(member, value []byte) error {
		to, wanted := into[string(member)]
		if !wanted {
			return nil
		}
		_, err := decodeMember(value, string(member), to)
		return err
	})
}

// eachField calls f for each member of an object, until f returns an error. No bytes
// are an empty object, and so is null.
func eachField(object json.RawMessage, f func(name, value []byte) error) error {
	if len(object) == 0 || string(object) == "null" {
		return nil
	}
	fields, ok := canonical.Fields(object)
	if !ok {
		return errNotObject
	}
	for name, value := range fields {
		if err := f(name, value); err != nil {
			return err
		}
	}
	return nil
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
