package admin

import (
	"net/url"
	"slices"
	"strings"
)

// segment is the last element of Path: what follows it is ours.
const segment = "registration_tokens"

// methods are the endpoints at one path.
type methods map[string]answer

func (m methods) allow() string {
	list := []string{}
	for _, name := range []string{"GET", "POST", "PUT", "DELETE"} {
		if m[name] != nil {
			list = append(list, name)
		}
	}
	return strings.Join(list, ", ")
}

// route finds the endpoints of a path, and the token that it names. It goes by the
// path as it was sent, in which an encoded slash or dot is part of a name.
func (h *handler) route(u *url.URL) (methods, string, error) {
	elements := strings.Split(u.EscapedPath(), "/")
	i := slices.Index(elements, segment)
	if i < 0 {
		return nil, "", errNoEndpoint
	}
	rest := elements[i+1:]
	if n := len(rest); n > 0 && rest[n-1] == "" { // a trailing slash
		rest = rest[:n-1]
	}
	if len(rest) == 0 {
		return methods{"GET": h.list}, "", nil
	}
	token, err := url.PathUnescape(rest[0])
	if err != nil {
		return nil, "", invalid("The path cannot be decoded")
	}
	switch {
	case len(rest) == 2 && rest[1] == "uses":
		return methods{"GET": h.uses}, token, nil
	case len(rest) == 2 && rest[1] == "qr":
		return methods{"GET": h.qr}, token, nil
	case len(rest) > 1:
		return nil, "", errNoEndpoint
	}
	m := methods{"GET": h.show, "PUT": h.update, "DELETE": h.remove}
	if rest[0] == "new" {
		m["POST"] = h.create
	}
	return m, token, nil
}
