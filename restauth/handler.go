package restauth

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/internal/forwarded"
	"github.com/matrix-uia/uia/internal/wire"
	"github.com/matrix-uia/uia/limit"
	"github.com/matrix-uia/uia/passwords"
	"github.com/matrix-uia/uia/register"
	"github.com/matrix-uia/uia/stages"
)

// HandlerOptions are the options of [NewHandler].
type HandlerOptions struct {
	// ServerName is what the user IDs of the homeserver end in. Required.
	ServerName string
	// Secret is what the homeserver proves with each request: as the password of HTTP
	// Basic authentication (any user), or as a Bearer token. At least 16 bytes; see the
	// package documentation for how the Synapse module is told.
	Secret string
	// Networks are the addresses that may ask. Without a Secret they are all that keeps
	// strangers out: then a request that a proxy has passed on is refused, because it
	// comes from the proxy's address whoever has sent it. Secret or Networks is required;
	// with both, a request needs both.
	Networks []netip.Prefix
	// Limiter bounds how many wrong passwords each account's homeserver may ask about. It
	// is charged by an address that stands for the name of the user, because all
	// requests come from the homeserver: so it must not be the engine's. Nil means
	// limit.New(nil).
	Limiter uia.Limiter
	// Logger gets what goes wrong. Nil discards it. It never sees a password.
	Logger *slog.Logger
}

const (
	// maxQuestion bounds a request's body.
	maxQuestion = 16 << 10
	// questionTime bounds how long a request may take, its body included.
	questionTime = 10 * time.Second
)

// NewHandler returns the handler that a homeserver asks, at [Path] or any other path, or
// every mistake in its options at once. It answers with what verify says, usually
// [Accounts.Verify]. Every answer is JSON: 200 with "success" for a question that can be
// answered, whatever the user or the password; 400 and 413 for a request that cannot be
// read; 401 and 403 for a caller that is not the homeserver; 405; 429 for an account whose
// password is being guessed; 503 if too many passwords wait to be looked at.
func NewHandler(verify Verify, o HandlerOptions) (http.Handler, error) {
	h := &handler{verify: verify, serverName: o.ServerName, limiter: o.Limiter, log: o.Logger}
	h.callers = callers{sha256.Sum256([]byte(o.Secret)), o.Secret != "", forwarded.PrefixesOf(o.Networks)}
	var mistakes []error
	wrong := func(is bool, text string) {
		if is {
			mistakes = append(mistakes, errors.New("restauth: "+text))
		}
	}
	wrong(verify == nil, "NewHandler needs a Verify")
	wrong(o.ServerName == "", "HandlerOptions.ServerName is required")
	wrong(o.Secret == "" && len(o.Networks) == 0, "HandlerOptions.Secret or Networks is required")
	wrong(o.Secret != "" && len(o.Secret) < minSecret, fmt.Sprintf("HandlerOptions.Secret has less than %d bytes", minSecret))
	if h.limiter == nil {
		var err error
		h.limiter, err = limit.New(nil)
		mistakes = append(mistakes, err)
	}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	if err := errors.Join(mistakes...); err != nil {
		return nil, err
	}
	return h, nil
}

type handler struct {
	verify     Verify
	serverName string
	callers    callers
	limiter    uia.Limiter
	log        *slog.Logger
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		wire.MethodNotAllowed(w, r, http.MethodPost)
		return
	}
	right, err := h.serve(w, r)
	if err != nil {
		if errors.Is(err, errNoSecret) {
			w.Header().Set("WWW-Authenticate", `Basic realm="check_credentials", charset="UTF-8"`)
		}
		uia.WriteError(w, r, h.log, err)
		return
	}
	uia.WriteJSON(w, r, h.log, http.StatusOK, answer{verdict{Success: right != "", MXID: right}})
}

// serve returns the user whose password the request has, "" if it is wrong.
func (h *handler) serve(w http.ResponseWriter, r *http.Request) (string, error) {
	if err := h.callers.admit(r); err != nil {
		return "", err
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(questionTime)) // not every server has one
	ctx, cancel := context.WithTimeout(r.Context(), questionTime)
	defer cancel()
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxQuestion))
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		return "", uia.NewError(http.StatusRequestEntityTooLarge, spec.MatrixError{ErrCode: wire.CodeTooLarge, Err: "The request body is too large."})
	} else if err != nil {
		return "", &uia.Error{Status: http.StatusBadRequest, MatrixError: spec.NotJSON("The request body could not be read."), Cause: err}
	}
	q, err := readQuestion(body, h.serverName)
	if err != nil {
		return "", err
	}
	return h.answer(ctx, q)
}

// answer asks verify, within the limits.
func (h *handler) answer(ctx context.Context, q question) (string, error) {
	localpart, ours := localpartOf(q.userID, h.serverName)
	if !ours || !possible(q.password) {
		return "", nil // of no user here, whoever they are
	}
	settle, err := h.limiter.Charge(ctx, standIn(localpart))
	if err != nil {
		return "", tooBusy(err)
	}
	defer settle(false)
	found, err := h.verify(ctx, stages.Identifier{User: q.userID}, q.password)
	if err != nil {
		return "", tooBusy(fmt.Errorf("restauth: verifying a password: %w", err))
	}
	// Whom the homeserver logs in is the user that it has asked for, to the letter.
	if found != q.userID {
		settle(true)
		return "", nil
	}
	return found, nil
}

// tooBusy makes an answer of an error that says that there was no time to look.
func tooBusy(err error) error {
	if errors.Is(err, passwords.ErrBusy) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return unavailable("Too many passwords are being looked at. Please try again in a moment.", err)
	}
	return err
}

func unavailable(text string, cause error) error {
	return &uia.Error{Status: http.StatusServiceUnavailable, RetryAfter: time.Second, MatrixError: spec.Unknown(text), Cause: cause}
}

// standIn returns the address under which a limiter counts the failures of one user: a
// unique local one, of a network of its own.
func standIn(localpart string) netip.Addr {
	sum := sha256.Sum256([]byte("restauth " + register.CanonicalLocalpart(localpart)))
	sum[0] = 0xfd
	return netip.AddrFrom16([16]byte(sum[:16]))
}
