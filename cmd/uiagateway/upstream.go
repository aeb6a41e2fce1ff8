package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/matrix-uia/uia/gateway"
)

// upstream is how accounts are made, and what there is to know of the homeserver.
type upstream interface {
	gateway.Upstream
	Check(ctx context.Context) []gateway.Finding
}

func newUpstream(c *config) (*gateway.Client, upstream) {
	client := &gateway.Client{URL: strings.TrimSuffix(c.upstream.String(), "/"), Transport: gateway.NewTransport(), Timeout: c.upstreamTimeout}
	if c.sharedSecret != "" {
		return client, &gateway.SharedSecret{Client: client, ServerName: c.serverName, Secret: c.sharedSecret}
	}
	return client, &gateway.PrivateRegistration{
		Client: client, ServerName: c.serverName, Token: c.token, Repeats: c.upstreamType == "synapse",
	}
}

// probe returns how administrators of the homeserver are told from others.
func probe(upstreamType string) gateway.AdminProbe {
	switch upstreamType {
	case "synapse":
		return gateway.SynapseAdmins
	case "dendrite":
		return gateway.DendriteAdmins
	}
	return gateway.AdminProbe{}
}

// check looks at the homeserver, where the gateway reaches it and, if that is known,
// where clients do: there it must be the gateway that answers.
func (g *gate) check(ctx context.Context) []gateway.Finding {
	findings := g.upstream.Check(ctx)
	if g.publicURL == "" {
		return findings
	}
	if err := g.reachedAt(ctx, g.publicURL); err != nil {
		findings = append(findings, gateway.Finding{Severe: true, Text: "clients that come to " + g.publicURL + " do not register at this gateway: " + err.Error()})
	}
	return findings
}

// reachedAt finds out whether it is this gateway, or another one on the same database,
// that registers clients at a URL: only these know the sessions that are begun there.
func (g *gate) reachedAt(ctx context.Context, public string) error {
	ctx, cancel := context.WithTimeout(ctx, g.upstreamTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, public+"/_matrix/client/v3/register", strings.NewReader("{}"))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	res, err := g.public.Do(r)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	var answer struct {
		Session string `json:"session"`
	}
	if err := json.NewDecoder(io.LimitReader(res.Body, 1<<20)).Decode(&answer); err != nil {
		return fmt.Errorf("the answer there is %s, and no JSON", res.Status)
	}
	if _, err := g.engine.Session(ctx, answer.Session); err != nil {
		return fmt.Errorf("the answer there is %s, and not of this gateway", res.Status)
	}
	return nil
}
