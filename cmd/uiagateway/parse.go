package main

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/matrix-org/gomatrixserverlib/spec"
	"github.com/matrix-uia/uia"
	"go.yaml.in/yaml/v3"
)

// environment returns the environment variable that a secret can come from.
func (s setting) environment() string {
	return "UIAGATEWAY_" + strings.ToUpper(strings.ReplaceAll(s.key, ".", "_"))
}

// text returns what reads a text, which has to pass the checks.
func text(field func(*config) *string, checks ...func(string) error) func(*config, *yaml.Node) error {
	return parsed(field, func(s string) (string, error) {
		for _, check := range checks {
			if err := check(s); err != nil {
				return "", err
			}
		}
		return s, nil
	})
}

// parsed returns what reads a value that is no list.
func parsed[T any](field func(*config) *T, parse func(string) (T, error)) func(*config, *yaml.Node) error {
	return func(c *config, n *yaml.Node) error {
		s, err := scalar(n)
		if err != nil {
			return err
		}
		v, err := parse(s)
		if err != nil {
			return err
		}
		*field(c) = v
		return nil
	}
}

// list returns what reads a list of texts. It reports every mistake, with its line.
func list[T any](field func(*config) *[]T, parse func(string) (T, error)) func(*config, *yaml.Node) error {
	return func(c *config, n *yaml.Node) error {
		if n.Kind != yaml.SequenceNode {
			return fmt.Errorf("has to be a list: [%s]", n.Value)
		}
		var out []T
		var bad mistakes
		for _, item := range n.Content {
			item = resolved(item)
			s, err := scalar(item)
			if err == nil {
				var v T
				if v, err = parse(s); err == nil {
					out = append(out, v)
					continue
				}
			}
			bad = append(bad, mistake{line: item.Line, text: err.Error()})
		}
		*field(c) = out
		if bad != nil {
			return bad
		}
		return nil
	}
}

// scalar returns the text of a value.
func scalar(n *yaml.Node) (string, error) {
	switch {
	case n.Kind != yaml.ScalarNode:
		return "", fmt.Errorf("has to be a single value")
	case n.Tag == "!!null":
		return "", fmt.Errorf("has no value")
	}
	return n.Value, nil
}

// yamlList writes a list on one line.
func yamlList(items []string) string {
	node := yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
	for _, item := range items {
		node.Content = append(node.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: item})
	}
	return marshal(&node)
}

func asItIs(s string) (string, error) { return s, nil }

func isNotEmpty(s string) error {
	if s == "" {
		return fmt.Errorf("is empty")
	}
	return nil
}

func isAddress(s string) error {
	_, port, err := net.SplitHostPort(s)
	if err != nil {
		return fmt.Errorf("%q is no address and port, such as 127.0.0.1:8009", s)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n > 65535 {
		return fmt.Errorf("%q has no port", s)
	}
	return nil
}

func parseUpstream(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("is no URL such as http://127.0.0.1:8008")
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("has more than a scheme, a host and a path")
	}
	u.Path = strings.TrimSuffix(u.Path, "/")
	return u, nil
}

func isPublicURL(s string) error {
	_, err := parseUpstream(s)
	if err == nil && strings.HasSuffix(s, "/") {
		err = fmt.Errorf("ends with a slash")
	}
	return err
}

func isInviteLink(s string) error {
	if !strings.Contains(s, "{token}") {
		return fmt.Errorf("has no {token}")
	}
	return nil
}

func isServerName(s string) error {
	if _, _, ok := spec.ParseAndValidateServerName(spec.ServerName(s)); !ok {
		return fmt.Errorf("%q is no server name: a host name such as example.org, perhaps with a port", s)
	}
	return nil
}

func parseUserID(s string) (string, error) {
	if _, err := spec.NewUserID(s, true); err != nil {
		return "", fmt.Errorf("%q is no user ID such as @alice:example.org", s)
	}
	return s, nil
}

func isTokenValue(s string) error {
	if !uia.ValidTokenValue(s) {
		return fmt.Errorf("is no registration token: 1 to %d of A-Z a-z 0-9 . _ ~ -", uia.MaxTokenLength)
	}
	return nil
}

func isOneOf(all ...string) func(string) error {
	return func(s string) error {
		if slices.Contains(all, s) {
			return nil
		}
		return fmt.Errorf("%q is none of %s", s, strings.Join(all, ", "))
	}
}

// parseProxy reads an address or a network.
func parseProxy(s string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(s); err == nil {
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, fmt.Errorf("%q is neither an address nor a network such as 10.0.0.0/8", s)
	}
	return p.Masked(), nil
}

func duration(least, most time.Duration) func(string) (time.Duration, error) {
	return func(s string) (time.Duration, error) {
		d, err := time.ParseDuration(s)
		if err != nil {
			return 0, fmt.Errorf("%q is no duration such as 20s", s)
		}
		if d < least || d > most {
			return 0, fmt.Errorf("%s is not between %s and %s", d, least, most)
		}
		return d, nil
	}
}

func number(least, most int) func(string) (int, error) {
	return func(s string) (int, error) {
		n, err := strconv.Atoi(s)
		if err != nil || n < least || n > most {
			return 0, fmt.Errorf("%q is no number from %d to %d", s, least, most)
		}
		return n, nil
	}
}

func isRedis(s string) error {
	if u, err := url.Parse(s); err != nil || u.Scheme != "redis" && u.Scheme != "rediss" && u.Scheme != "unix" {
		return fmt.Errorf("is no URL such as redis://127.0.0.1:6379/0")
	}
	return nil
}
