// Package api has what the JSON handlers of this module for administrators and members
// share: bodies and queries that are read strictly, lists whose pages are sealed, and the
// refusal of what other origins send. It is internal because a homeserver has its own.
package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/internal/wire"
)

const (
	maxBody  = 64 << 10
	maxLabel = 255
	// MaxInt is the greatest integer that every JSON decoder reads exactly: web
	// interfaces keep numbers in floating point and send them back.
	MaxInt = uia.MaxUses
)

// Object is a JSON object with its members as they were sent. Names match exactly,
// and a name that nobody asks for does not matter.
type Object map[string]json.RawMessage

// ReadObject reads the body of a request.
func ReadObject(r *http.Request) (Object, error) {
	tooLarge := uia.NewError(http.StatusRequestEntityTooLarge, spec.MatrixError{ErrCode: wire.CodeTooLarge, Err: "The body is too large"})
	if r.ContentLength > maxBody {
		return nil, tooLarge
	}
	var body []byte
	var err error
	if r.Body != nil {
		body, err = io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	}
	switch {
	case err != nil:
		return nil, uia.NewError(http.StatusBadRequest, spec.NotJSON("The body could not be read"))
	case len(body) > maxBody:
		return nil, tooLarge
	case !utf8.Valid(body) || !json.Valid(body):
		return nil, uia.NewError(http.StatusBadRequest, spec.NotJSON("The body is not JSON"))
	}
	o, err := ParseObject(body)
	if err != nil {
		return nil, uia.NewError(http.StatusBadRequest, spec.BadJSON("The body "+err.Error()))
	}
	return o, nil
}

// ParseObject reads valid JSON.
func ParseObject(raw []byte) (Object, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	if start, err := dec.Token(); err != nil || start != json.Delim('{') {
		return nil, errors.New("is not a JSON object")
	}
	o := make(Object)
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return nil, err
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, err
		}
		// Decoders differ in which of two equal names they take.
		if _, twice := o[name.(string)]; twice {
			return nil, errors.New("has two members of the same name")
		}
		o[name.(string)] = value
	}
	return o, nil
}

// Has reports whether the member is there, null or not.
func (o Object) Has(name string) bool { return o[name] != nil }

// Given reports whether the member is there and not null.
func (o Object) Given(name string) bool { return o.Has(name) && string(o[name]) != "null" }

// Integer reads an integer of the range, nil for null or an absent one. What is
// spelled as a fraction or with an exponent is no integer, whatever its value.
func (o Object) Integer(name string, least, most int64) (*int64, error) {
	if !o.Given(name) {
		return nil, nil
	}
	raw := string(o[name])
	n, err := strconv.ParseInt(raw, 10, 64)
	if strings.Trim(raw, "-0123456789") != "" || err != nil || n < least || n > most {
		return nil, Invalid(fmt.Sprintf("%s must be an integer from %d to %d", name, least, most))
	}
	return &n, nil
}

// Text reads a string, "" for null or an absent one.
func (o Object) Text(name string) (s string, err error) {
	if o.Given(name) && json.Unmarshal(o[name], &s) != nil {
		return "", Invalid(name + " must be a string")
	}
	return s, nil
}

// Flag reads a boolean, false for null or an absent one.
func (o Object) Flag(name string) (b bool, err error) {
	if o.Given(name) && json.Unmarshal(o[name], &b) != nil {
		return false, Invalid(name + " must be a boolean")
	}
	return b, nil
}

// Label reads the label.
func (o Object) Label() (string, error) {
	s, err := o.Text("label")
	if err == nil {
		err = CheckLabel(s)
	}
	return s, err
}

// CheckLabel refuses a label that is too long, or that does not fit a line.
func CheckLabel(s string) error {
	if len(s) > maxLabel || !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
		return Invalid(fmt.Sprintf("label must be at most %d bytes long, without control characters", maxLabel))
	}
	return nil
}

// Invalid is the answer to a value that cannot be taken.
func Invalid(message string) error {
	return uia.NewError(http.StatusBadRequest, spec.InvalidParam(message))
}
