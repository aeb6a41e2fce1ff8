package admin

import (
	"net/url"
	"slices"
	"strings"

	"github.com/matrix-uia/uia/internal/api"
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

// names are the token, the session and so on that a path names; "" for those that it does
// not name.
type names struct{ token, session, user string }

// route finds the endpoints of a path, and the names in it. It reads the path as it was
// sent, in which an encoded slash or dot is part of a name.
func (h *handler) route(u *url.URL) (m methods, n names, err error) {
	rest, ok := h.below(u.EscapedPath())
	if !ok {
		return nil, n, errNoEndpoint
	}
	if len(rest) == 0 {
		return methods{"GET": h.list}, n, nil
	}
	if n.token, err = url.PathUnescape(rest[0]); err != nil {
		return nil, n, errPath
	}
	switch {
	case strings.HasPrefix(n.token, "@"):
		return h.routeUser(n.token, rest[1:])
	case len(rest) == 3 && rest[1] == "uses":
		if n.session, err = url.PathUnescape(rest[2]); err != nil {
			return nil, n, errPath
		}
		return methods{"DELETE": h.release}, n, nil
	case len(rest) == 2 && rest[1] == "uses":
		return methods{"GET": h.uses}, n, nil
	case len(rest) == 2 && rest[1] == "qr":
		return methods{"GET": h.qr}, n, nil
	case len(rest) > 1:
		return nil, n, errNoEndpoint
	}
	m = methods{"GET": h.show, "PUT": h.update, "DELETE": h.remove}
	if rest[0] == "new" {
		m["POST"] = h.create
	}
	return m, n, nil
}

// routeUser finds the endpoints of an account: no token begins with an @.
func (h *handler) routeUser(user string, rest []string) (methods, names, error) {
	n := names{user: user}
	switch {
	case !isUser(user) || len(rest) != 1:
	case rest[0] == "tree":
		return methods{"GET": h.tree}, n, nil
	case rest[0] == "revoke":
		return methods{"POST": h.revokeAll}, n, nil
	}
	return nil, n, errNoEndpoint
}

var errPath = api.Invalid("The path cannot be decoded")

// below returns the elements of a path that follow where the handler is mounted, and
// false for a path elsewhere.
func (h *handler) below(path string) (rest []string, ok bool) {
	elements := strings.Split(path, "/")
	if mount := strings.Split(strings.TrimSuffix(h.opts.Path, "/"), "/"); h.opts.Path != "" {
		if len(elements) < len(mount) || !slices.Equal(elements[:len(mount)], mount) {
			return nil, false
		}
		rest = elements[len(mount):]
	} else {
		i := slices.Index(elements, segment)
		if i < 0 {
			return nil, false
		}
		rest = elements[i+1:]
	}
	if n := len(rest); n > 0 && rest[n-1] == "" { // a trailing slash
		rest = rest[:n-1]
	}
	return rest, true
}
