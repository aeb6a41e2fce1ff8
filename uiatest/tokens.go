package uiatest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// adminPath is Synapse's administration of registration tokens.
const adminPath = "/_synapse/admin/v1/registration_tokens"

// mint makes tokens for cases, in the way that the homeserver offers.
type mint struct {
	server *Server
	sender *sender
	from   *origin

	mu    sync.Mutex
	given int      // of Server.Tokens
	made  []string // through the administration, to be deleted at the end
}

// cannotMake returns why the tokens of a case cannot be made; "" if they can.
func (r *runner) cannotMake(c *Case) string {
	s := &r.server
	if r.flow == "D" || s.NewToken != nil || s.AdminToken != "" {
		return ""
	}
	if len(c.tokens)+len(c.accounts) > 0 && len(s.Tokens) == 0 {
		return "no way to make registration tokens"
	}
	for _, t := range c.tokens {
		if !t.plain() {
			return "the tokens that were given are of one use each, and the case needs another kind"
		}
	}
	return ""
}

// token makes a token.
func (m *mint) token(ctx context.Context, d tokenDecl, s *scope) (string, error) {
	t := NewToken{Uses: d.Uses}
	switch {
	case d.Unlimited:
		t.Uses = nil
	case d.Uses == nil:
		t.Uses = new(int64(1))
	}
	t.Value = "uiatest-" + random(16)
	if d.Value != "" {
		var err error
		if t.Value, err = s.text(d.Value); err != nil {
			return "", err
		}
	}
	switch {
	case m.server.NewToken != nil:
		if d.Expired {
			t.Expires = time.Now().Add(-time.Minute)
		}
		value, err := m.server.NewToken(ctx, t)
		if err != nil && ctx.Err() == nil {
			err = &SetupError{"NewToken", err.Error()}
		}
		return value, err
	case m.server.AdminToken != "":
		return m.administered(ctx, t, d.Expired, s)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.given == len(m.server.Tokens) {
		return "", notApplicable(fmt.Sprintf("all of the %d tokens that were given are used", m.given))
	}
	m.given++
	return m.server.Tokens[m.given-1], nil
}

// administered makes a token through the administration. That refuses to make one that has
// expired already, so administered makes one that soon expires and waits until it has.
func (m *mint) administered(ctx context.Context, t NewToken, expired bool, s *scope) (string, error) {
	body := map[string]any{"token": t.Value, "uses_allowed": t.Uses, "expiry_time": nil}
	expires := time.Now().Add(1500 * time.Millisecond)
	if expired {
		body["expiry_time"] = expires.UnixMilli()
	}
	request := m.request(http.MethodPost, adminPath+"/new", encode(body))
	a, err := m.sender.send(ctx, m.from, request, patient)
	s.last = s.log.add(newExchange(request, a, err), a)
	if err != nil {
		return "", err
	}
	var made struct{ Token string }
	if json.Unmarshal(a.body, &made) != nil || a.status != http.StatusOK || made.Token != t.Value {
		return "", notApplicable("the administration makes no token for it: " + a.brief())
	}
	m.mu.Lock()
	m.made = append(m.made, t.Value)
	m.mu.Unlock()
	if expired {
		return t.Value, sleep(ctx, time.Until(expires.Add(500*time.Millisecond)))
	}
	return t.Value, nil
}

func (m *mint) request(method, path string, body []byte) *message {
	return &message{method: method, path: path, body: body, header: http.Header{
		"Authorization": {"Bearer " + m.server.AdminToken}, "Content-Type": {"application/json"},
	}}
}

// clean deletes the tokens that were made through the administration.
func (m *mint) clean(ctx context.Context) {
	for _, value := range m.made {
		if _, err := m.sender.send(ctx, m.from, m.request(http.MethodDelete, adminPath+"/"+url.PathEscape(value), nil), patient); err != nil {
			return
		}
	}
}
