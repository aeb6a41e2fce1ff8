package uia

import (
	"encoding/json"
	"net/http"
	"strconv"

	"github.com/matrix-org/gomatrixserverlib/spec"
)

// members calls yield with each member of an object in canonical form: the name
// with its quotes, the value, and the place where the member begins. It stops
// when yield returns false.
func members(object []byte, yield func(name, value []byte, start int) bool) {
	for pos := 1; pos < len(object) && object[pos] == '"'; pos++ { // pos++ skips the comma
		start := pos
		pos = skip(object, pos)
		colon := pos
		pos = skip(object, pos+1)
		if !yield(object[start:colon], object[colon+1:pos], start) {
			return
		}
	}
}

// skip returns the place behind the value that begins at pos.
func skip(canonical []byte, pos int) int {
	for depth := 0; pos < len(canonical); pos++ {
		switch canonical[pos] {
		case '"':
			for pos++; canonical[pos] != '"'; pos++ {
				if canonical[pos] == '\\' {
					pos++
				}
			}
			if depth == 0 {
				return pos + 1
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return pos // the end of the object that the value stands in
			}
			if depth--; depth == 0 {
				return pos + 1
			}
		case ',', ':':
			if depth == 0 {
				return pos
			}
		}
	}
	return pos
}

// member returns the value of a member of an object in canonical form, nil if
// there is none. The name must need no escaping.
func member(object []byte, name string) (found []byte) {
	members(object, func(n, value []byte, _ int) bool {
		if string(n[1:len(n)-1]) == name {
			found = value
		}
		return found == nil
	})
	return found
}

// without returns an object in canonical form without one of its members, and
// that member's value (nil if there is none).
func without(object []byte, name string) (rest, value []byte) {
	start, end := -1, 0
	members(object, func(n, v []byte, at int) bool {
		if string(n[1:len(n)-1]) == name {
			start, end, value = at, at+len(n)+1+len(v), v
		}
		return start < 0
	})
	switch {
	case start < 0:
		return object, nil
	case object[end] == ',': // take the comma behind it along
		end++
	case start > 1: // the last of several: the comma before it
		start--
	}
	rest = make([]byte, 0, len(object)-(end-start))
	return append(append(rest, object[:start]...), object[end:]...), value
}

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

// authData is what the engine itself reads of the auth member.
type authData struct {
	object  json.RawMessage // the whole of it; nil if absent or null
	typ     string
	session string
}

// splitAuth takes a request apart. Null and "" count as absent.
func splitAuth(canonical []byte) (params []byte, auth authData, err error) {
	params, raw := without(canonical, "auth")
	if raw == nil || string(raw) == "null" {
		return params, auth, nil
	}
	if raw[0] != '{' {
		return nil, auth, errBadAuth
	}
	auth.object = raw
	if _, err := decodeMember(member(raw, "type"), "type", &auth.typ); err != nil {
		return nil, auth, errBadType
	}
	if _, err := decodeMember(member(raw, "session"), "session", &auth.session); err != nil {
		return nil, auth, errBadSession
	}
	return params, auth, nil
}
