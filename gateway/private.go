package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia"
)

const (
	registerPath = "/_matrix/client/v3/register"
	// maxStages bounds how many stages of an upstream are passed.
	maxStages = 4
	// privateFence is how long a finished session of the upstream may need until its
	// account can be seen.
	privateFence = 30 * time.Second
)

// PrivateRegistration is the [Upstream] that makes accounts as a client does, in a
// session of its own for each. The upstream must not let anybody else register: it
// requires a registration token that only the gateway has. It works with every
// homeserver that has registration tokens; one path is used for all requests of a
// session, because some upstreams bind it to its path.
type PrivateRegistration struct {
	*Client
	// ServerName is the part of user IDs behind the colon. Required.
	ServerName string
	// Token is a registration token of the upstream with any number of uses. Empty
	// if the upstream asks for nothing but the dummy stage, because nobody else
	// reaches it.
	Token string
	// Repeats says that the upstream answers the last request of a session that has
	// made its account with that account again, also after a restart, as Synapse does.
	// "In use" then means by somebody else, and a use is never booked to a stranger's
	// account.
	Repeats bool

	names recentNames
}

var _ Upstream = (*PrivateRegistration)(nil)

// Available implements [Upstream].
func (p *PrivateRegistration) Available(ctx context.Context, localpart string) error {
	return p.names.ask(localpart, func() error { return nameRefusal(p.available(ctx, localpart)) })
}

// Begin implements [Upstream]: it opens a session with all parameters, and passes all
// stages but the last.
func (p *PrivateRegistration) Begin(ctx context.Context, o Order) (string, error) {
	session, stage, err := p.open(ctx, o, o.registerParams(map[string]any{"username": o.Localpart, "password": o.Password}))
	return stage + " " + session, err
}

// open opens a session, and passes all stages but the last, which it returns.
func (p *PrivateRegistration) open(ctx context.Context, o Order, params map[string]any) (session, stage string, err error) {
	send := func(body any) error {
		return p.do(ctx, call{method: http.MethodPost, path: registerPath, client: o.Client, body: body}, nil)
	}
	err = send(params)
	for range maxStages {
		c, ok := errors.AsType[*answerError](err)
		switch {
		case err == nil:
			return "", "", unavailable("The homeserver registers without any authentication. Please tell its administrator.", nil)
		case !ok || c.Status != http.StatusUnauthorized || c.Session == "":
			return "", "", refusal(err)
		case c.Code != "" && len(c.Completed) == 0 && session != "":
			return "", "", unavailable("The homeserver refuses its gateway. Please tell its administrator.",
				fmt.Errorf("gateway: the upstream refuses a stage of the private registration: %w", err))
		}
		left := p.left(c)
		if len(left) == 0 {
			return "", "", unavailable("The homeserver asks for more than its gateway has. Please tell its administrator.",
				fmt.Errorf("gateway: the upstream offers no flow that the gateway can pass: %v", c.Flows))
		}
		session = c.Session
		if len(left) == 1 {
			return session, left[0], nil
		}
		err = send(map[string]any{"auth": p.auth(session, left[0])})
	}
	return "", "", unavailable("The homeserver refuses its gateway. Please tell its administrator.", err)
}

// left returns the stages that are left of the first flow that the gateway can pass;
// none if there is no such flow.
func (p *PrivateRegistration) left(c *answerError) []string {
	for _, flow := range c.Flows {
		var left []string
		passable := true
		for _, stage := range flow.Stages {
			if slices.Contains(c.Completed, stage) {
				continue
			}
			left = append(left, stage)
			passable = passable && (stage == dummyType || isTokenStage(stage) && p.Token != "")
		}
		if passable {
			return left
		}
	}
	return nil
}

const dummyType = uia.DummyType

func isTokenStage(stage string) bool {
	return stage == uia.TokenType || stage == uia.TokenTypeUnstable
}

func (p *PrivateRegistration) auth(session, stage string) map[string]string {
	auth := map[string]string{"type": stage, "session": session}
	if isTokenStage(stage) {
		auth["token"] = p.Token
	}
	return auth
}

// finish sends the last request of a session. It has nothing but auth: some upstreams
// take further parameters for all of them, and would miss the password.
func (p *PrivateRegistration) finish(ctx context.Context, o Order, resume string) (a loginAnswer, err error) {
	stage, session, _ := strings.Cut(resume, " ")
	err = p.do(ctx, call{
		method: http.MethodPost, path: registerPath, client: o.Client,
		body: map[string]any{"auth": p.auth(session, stage)},
	}, &a)
	return a, err
}

// Make implements [Upstream].
func (p *PrivateRegistration) Make(ctx context.Context, o Order, resume string) (*Login, error) {
	a, err := p.finish(ctx, o, resume)
	p.names.forget(o.Localpart)
	switch {
	case err == nil:
		return p.kept(ctx, o, a), nil
	case refused(err) && !told[code(err)]:
		return nil, fmt.Errorf("%w: %w", ErrStale, err) // the upstream asks for authentication, or has been restarted
	}
	return nil, refusal(err)
}

// refused reports whether the upstream has looked at the request and refused it.
func refused(err error) bool {
	s := status(err)
	return s >= 400 && s <= 499 && s != http.StatusTooManyRequests
}

// Settle implements [Upstream]. It sends the last request again: the upstream's
// session has the parameters, so that an account that was not made is made now, with
// the password that its user has chosen.
func (p *PrivateRegistration) Settle(ctx context.Context, pending Pending) (bool, error) {
	p.names.forget(pending.Localpart)
	if pending.Resume != "" {
		err := p.again(ctx, pending.Resume)
		switch {
		case err == nil:
			return true, nil
		case !refused(err):
			return false, err
		case p.Repeats && code(err) == spec.ErrorUserInUse:
			return false, nil
		}
	}
	// The session is over, or unknown, or its name is in use. Whichever it is, this
	// session makes nothing any more.
	err := p.available(ctx, pending.Localpart)
	switch {
	case err == nil && time.Since(pending.Since) < privateFence:
		return false, errStillAtIt
	case code(err) == spec.ErrorUserInUse:
		return true, nil
	}
	return false, err
}

// again sends the last request of a session until it is clear what the upstream
// makes of it. "In use" may mean by this very session, which is perhaps just
// recording it.
func (p *PrivateRegistration) again(ctx context.Context, resume string) error {
	for pause := 300 * time.Millisecond; ; pause *= 2 {
		a, err := p.finish(ctx, Order{}, resume)
		if err == nil {
			p.kept(ctx, Order{}, a) // nobody waits for this login
			return nil
		}
		if code(err) != spec.ErrorUserInUse || pause > time.Second {
			return err
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}

// Check looks at what [Client.Check] does, and whether the upstream lets the gateway
// register. It opens a session there, which makes nothing.
func (p *PrivateRegistration) Check(ctx context.Context) []Finding {
	return append(p.Client.check(ctx, p.Token == ""), p.checkToken(ctx)...)
}

func (p *PrivateRegistration) checkToken(ctx context.Context) []Finding {
	err := p.do(ctx, call{method: http.MethodPost, path: registerPath, body: struct{}{}}, nil)
	c, ok := errors.AsType[*answerError](err)
	switch {
	case !ok && err != nil, ok && c.Status >= 500:
		return []Finding{{Severe: true, Text: fmt.Sprintf("whether the gateway can register cannot be told: %v", err)}}
	case ok && c.Status == http.StatusForbidden:
		return []Finding{{Severe: true, Text: "the upstream's registration is off: nobody can register"}}
	case ok && len(p.left(c)) == 0:
		return []Finding{{Severe: true, Text: fmt.Sprintf("the upstream offers no flow that the gateway can pass: %v", c.Flows)}}
	case p.Token == "":
		return nil
	}
	var valid struct {
		Valid *bool `json:"valid"`
	}
	err = p.do(ctx, call{method: http.MethodGet, path: uia.ValidityPath + "?token=" + url.QueryEscape(p.Token)}, &valid)
	if err == nil && valid.Valid != nil && !*valid.Valid {
		return []Finding{{Severe: true, Text: "the upstream says that the gateway's registration token is not valid: nobody can register"}}
	}
	return nil
}
