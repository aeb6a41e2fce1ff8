package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
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
	maxMeta  = 4 << 10
	maxLabel = 255
	// maxInt is the greatest integer that every JSON decoder reads exactly: web
	// interfaces keep numbers in floating point and send them back.
	maxInt = uia.MaxUses
)

// object is a JSON object with its members as they were sent. Names match exactly,
// and a name that nobody asks for does not matter.
type object map[string]json.RawMessage

// readObject reads the body of a request.
func readObject(r *http.Request) (object, error) {
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
	o, err := parseObject(body)
	if err != nil {
		return nil, uia.NewError(http.StatusBadRequest, spec.BadJSON("The body "+err.Error()))
	}
	return o, nil
}

// parseObject reads valid JSON.
func parseObject(raw []byte) (object, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	if start, err := dec.Token(); err != nil || start != json.Delim('{') {
		return nil, errors.New("is not a JSON object")
	}
	o := make(object)
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

// has reports whether the member is there, null or not.
func (o object) has(name string) bool { return o[name] != nil }

// given reports whether the member is there and not null.
func (o object) given(name string) bool { return o.has(name) && string(o[name]) != "null" }

// integer reads an integer of the range, nil for null or an absent one. What is
// spelled as a fraction or with an exponent is no integer, whatever its value.
func (o object) integer(name string, least, most int64) (*int64, error) {
	if !o.given(name) {
		return nil, nil
	}
	raw := string(o[name])
	n, err := strconv.ParseInt(raw, 10, 64)
	if strings.Trim(raw, "-0123456789") != "" || err != nil || n < least || n > most {
		return nil, invalid(fmt.Sprintf("%s must be an integer from %d to %d", name, least, most))
	}
	return &n, nil
}

// text reads a string, "" for null or an absent one.
func (o object) text(name string) (s string, err error) {
	if o.given(name) && json.Unmarshal(o[name], &s) != nil {
		return "", invalid(name + " must be a string")
	}
	return s, nil
}

// flag reads a boolean, false for null or an absent one.
func (o object) flag(name string) (b bool, err error) {
	if o.given(name) && json.Unmarshal(o[name], &b) != nil {
		return false, invalid(name + " must be a boolean")
	}
	return b, nil
}

// label reads the label.
func (o object) label() (string, error) {
	s, err := o.text("label")
	if err == nil && (len(s) > maxLabel || strings.ContainsFunc(s, unicode.IsControl)) {
		err = invalid(fmt.Sprintf("label must be at most %d bytes long, without control characters", maxLabel))
	}
	return s, err
}

// isRecord reports whether the object is a whole record of this API, as web interfaces
// send it back: it has members that a PUT cannot set.
func (o object) isRecord() bool {
	return slices.ContainsFunc([]string{"pending", "completed", "created_ts", "created_by", "last_used_ts", "fingerprint", "valid"}, o.has)
}

// meta reads the object for the homeserver, in its shortest form.
func (h *handler) meta(o object) (json.RawMessage, error) {
	if !o.given("meta") {
		return nil, nil
	}
	if _, err := parseObject(o["meta"]); err != nil {
		return nil, invalid("meta " + err.Error())
	}
	var short bytes.Buffer
	if err := json.Compact(&short, o["meta"]); err != nil {
		return nil, err
	}
	if short.Len() > maxMeta {
		return nil, invalid(fmt.Sprintf("meta must be at most %d bytes long", maxMeta))
	}
	if err := h.opts.CheckMeta(short.Bytes()); err != nil {
		return nil, invalid("meta: " + err.Error())
	}
	return short.Bytes(), nil
}
