package api

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// Query is the query of a request. Parameters that no method reads are ignored.
type Query struct{ url.Values }

// ReadQuery reads the query of a request.
func ReadQuery(r *http.Request) (Query, error) {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return Query{}, Invalid("The query cannot be read")
	}
	return Query{values}, nil
}

// Flag reads true or false; nil if the parameter is absent.
func (q Query) Flag(name string) (*bool, error) {
	if !q.Has(name) {
		return nil, nil
	}
	switch q.Get(name) {
	case "true":
		return new(true), nil
	case "false":
		return new(false), nil
	}
	return nil, Invalid(name + " must be true or false")
}

// Limit reads how many entries a page may have. A number above the maximum is no mistake:
// the page then has the maximum.
func (q Query) Limit() (int, error) {
	if !q.Has("limit") {
		return DefaultLimit, nil
	}
	s := q.Get("limit")
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || !Digits(s) || n < 1 || n > MaxInt {
		return 0, Invalid("limit must be a positive integer")
	}
	return int(min(n, MaxLimit)), nil
}

// Digits reports whether s consists of digits, and has one.
func Digits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }
