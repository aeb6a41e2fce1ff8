package uia

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/matrix-uia/uia/internal/panics"
)

// A stage may be code of the homeserver. So the methods here put the stage's name in
// front of its errors, unless they are answers for a client, and turn its panics into
// errors.

// named puts the stage's name in front of an error, unless it is an answer for a client.
func (s *stage) named(err *error) {
	if *err == nil {
		return
	}
	if _, more := errors.AsType[*Continue](*err); more {
		return
	}
	if refusal, ok := errors.AsType[*Error](*err); ok && refusal.Status < http.StatusInternalServerError {
		return
	}
	*err = fmt.Errorf("stage %q: %w", s.Type(), *err)
}

// broken is named for the methods of TxStage, in which a refusal says that what was set
// aside is gone. An *Error about a fault of the server does not say so, and stays an
// ordinary error.
func (s *stage) broken(err *error) {
	if refusal, ok := errors.AsType[*Error](*err); ok && refusal.Status >= http.StatusInternalServerError {
		*err = errors.New((*err).Error())
	}
	s.named(err)
}

// Attempt calls the Attempt of the Stage.
func (s *stage) Attempt(ctx context.Context, session *Session, auth json.RawMessage) (result json.RawMessage, err error) {
	defer s.named(&err)
	defer panics.ToError(&err)
	result, err = s.Stage.Attempt(ctx, session, auth)
	if err == nil && result != nil && !json.Valid(result) {
		return nil, errors.New("the result is not JSON")
	}
	return result, err
}

type guardedParams struct {
	ParamsStage
	s *stage
}

func (g guardedParams) Params(ctx context.Context, session *Session) (params json.RawMessage, err error) {
	defer g.s.named(&err)
	defer panics.ToError(&err)
	params, err = g.ParamsStage.Params(ctx, session)
	if err == nil && params != nil && !json.Valid(params) {
		return nil, errors.New("the params are not JSON")
	}
	return params, err
}

type guardedOpening struct {
	OpeningStage
	s *stage
}

func (g guardedOpening) Opening(ctx context.Context, session *Session) (state string, err error) {
	defer g.s.named(&err)
	defer panics.ToError(&err)
	return g.OpeningStage.Opening(ctx, session)
}

type guardedSweeper struct {
	Sweeper
	s *stage
}

func (g guardedSweeper) Sweep(ctx context.Context, before time.Time) (n int, err error) {
	defer g.s.named(&err)
	defer panics.ToError(&err)
	return g.Sweeper.Sweep(ctx, before)
}

type guardedTx struct {
	TxStage
	s *stage
}

func (g guardedTx) Hold(ctx context.Context, c TxClaim) (result json.RawMessage, err error) {
	defer g.s.broken(&err)
	defer panics.ToError(&err)
	return g.TxStage.Hold(ctx, c)
}

func (g guardedTx) Begin(ctx context.Context, c TxClaim) (err error) {
	defer g.s.broken(&err)
	defer panics.ToError(&err)
	return g.TxStage.Begin(ctx, c)
}

func (g guardedTx) Commit(ctx context.Context, c TxClaim, userID string) (err error) {
	defer g.s.named(&err)
	defer panics.ToError(&err)
	return g.TxStage.Commit(ctx, c, userID)
}

func (g guardedTx) Rollback(ctx context.Context, c TxClaim) (err error) {
	defer g.s.named(&err)
	defer panics.ToError(&err)
	return g.TxStage.Rollback(ctx, c)
}

func (g guardedTx) Release(ctx context.Context, c TxClaim, kept json.RawMessage) (err error) {
	defer g.s.named(&err)
	defer panics.ToError(&err)
	return g.TxStage.Release(ctx, c, kept)
}

func (g guardedTx) InDoubt(ctx context.Context, before time.Time, limit int) (claims []TxClaim, err error) {
	defer g.s.named(&err)
	defer panics.ToError(&err)
	return g.TxStage.InDoubt(ctx, before, limit)
}
