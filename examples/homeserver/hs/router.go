package hs

import (
	"net/http"
	"path"
	"slices"
	"strings"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia"
)

// router is an http.ServeMux that answers in Matrix JSON whatever is asked: 404
// and 405 are M_UNRECOGNIZED, there are no redirects, and every answer carries
// the CORS headers.
type router struct {
	mux     http.ServeMux
	methods map[string][]string // by path
}

func newRouter() *router {
	rt := &router{methods: make(map[string][]string)}
	rt.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		uia.WriteError(w, r, nil, uia.NewError(http.StatusNotFound, spec.Unrecognized("Unrecognized request")))
	})
	return rt
}

// add routes a method of a path, as http.ServeMux spells them, to h. Any method
// of a handler that looks at the method itself is "".
func (rt *router) add(method, path string, h http.Handler) {
	if method == "" {
		rt.mux.Handle(path, h)
		return
	}
	if rt.methods[path] == nil {
		rt.mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Allow", strings.Join(slices.Concat(rt.methods[path], []string{http.MethodOptions}), ", "))
			uia.WriteError(w, r, nil, uia.NewError(http.StatusMethodNotAllowed, spec.Unrecognized("Method not allowed")))
		})
	}
	rt.methods[path] = append(rt.methods[path], method)
	slices.Sort(rt.methods[path])
	rt.mux.Handle(method+" "+path, h)
}

func (rt *router) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Access-Control-Allow-Methods", "GET, POST, PUT, DELETE, OPTIONS")
	h.Set("Access-Control-Allow-Headers", "X-Requested-With, Content-Type, Authorization")
	if r.Method == http.MethodOptions {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	// ServeMux would redirect to the cleaned path, in HTML. Like ServeMux this goes by
	// the path as it was sent: an encoded dot may be the name of something.
	sent := r.URL.EscapedPath()
	if clean := path.Clean(sent); clean != sent && clean+"/" != sent {
		uia.WriteError(w, r, nil, uia.NewError(http.StatusNotFound, spec.Unrecognized("Unrecognized request")))
		return
	}
	rt.mux.ServeHTTP(w, r)
}
