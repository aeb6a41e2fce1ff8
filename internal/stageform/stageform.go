// Package stageform drives the form of a stage for the pages of this module: it asks the
// stage for its form, and makes auth data of what was submitted.
package stageform

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"unicode/utf8"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/form"
	"github.com/matrix-uia/uia/internal/panics"
	"github.com/matrix-uia/uia/internal/wire"
)

var (
	errBadForm   = uia.NewError(http.StatusBadRequest, spec.InvalidParam("What was sent could not be read. Please try again."))
	errLargeForm = uia.NewError(http.StatusRequestEntityTooLarge, spec.MatrixError{ErrCode: wire.CodeTooLarge, Err: "What was sent is too large."})
)

// Values reads a submitted form, whatever its Content-Type. body and err are what
// uia.Engine.Request has returned.
func Values(body []byte, err error) (url.Values, error) {
	if refusal, ok := errors.AsType[*uia.Error](err); ok && refusal.Status == http.StatusRequestEntityTooLarge {
		return nil, errLargeForm
	}
	if err != nil {
		return nil, errBadForm
	}
	values, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, errBadForm
	}
	for name, list := range values {
		if len(list) != 1 || !utf8.ValidString(name) || !utf8.ValidString(list[0]) {
			return nil, errBadForm
		}
	}
	return values, nil
}

// Form asks the stage for its form. Its errors name the stage.
func Form(ctx context.Context, st uia.FallbackStage, s *uia.Session, state form.State) (shown *form.Form, err error) {
	defer named(st, &err)
	defer panics.ToError(&err)
	shown, err = st.Form(ctx, s, state)
	if err == nil && shown == nil {
		err = errors.New("there is no form")
	}
	return shown, err
}

// Auth makes auth data of a submitted form. Its errors name the stage.
func Auth(st uia.FallbackStage, s *uia.Session, sent url.Values) (auth json.RawMessage, err error) {
	defer named(st, &err)
	defer panics.ToError(&err)
	return st.FormAuth(s, sent)
}

// named puts the stage's name in front of an error, and keeps an error that is an answer
// one.
func named(st uia.Stage, err *error) {
	if *err != nil {
		*err = fmt.Errorf("stage %q: the fallback page: %w", st.Type(), *err)
	}
}
