package main

import (
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/matrix-uia/uia"

	"github.com/matrix-uia/uia/examples/homeserver/hs"
	"github.com/matrix-uia/uia/register"
	"github.com/matrix-uia/uia/restauth"
)

// The auth types that the hints know how to complete.
const (
	typeToken = uia.TokenType
	typeDummy = uia.DummyType
)

// config is what the command line says.
type config struct {
	listen, db string
	audit      string
	admin      hs.Credentials // none if there is no localpart
	generated  bool           // the admin's password
	options    hs.Options
}

// usageError is a mistake on the command line.
type usageError struct{ error }

// parseFlags reads the command line. The error is flag.ErrHelp, with the help written to
// stderr, or a usageError.
func parseFlags(args []string, stderr io.Writer) (config, error) {
	c, err := readFlags(args, stderr)
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		err = usageError{err}
	}
	return c, err
}

func readFlags(args []string, stderr io.Writer) (config, error) {
	var c config
	fs := flag.NewFlagSet("homeserver", flag.ContinueOnError)
	fs.SetOutput(io.Discard) // an error is printed once, and without the help
	fs.StringVar(&c.listen, "listen", "127.0.0.1:8008", "serve HTTP at this `address`")
	fs.StringVar(&c.db, "db", "homeserver.db",
		"keep everything in this `database`: the file of a SQLite database, a PostgreSQL URL (postgres://...), or \"memory\"")
	fs.StringVar(&c.options.ServerName, "server-name", "localhost", "the `name` that user IDs end in")
	fs.StringVar(&c.options.SharedSecret, "registration-shared-secret", "",
		"let tools that know this `secret` make accounts through /_synapse/admin/v1/register")
	fs.StringVar(&c.options.AccountsURL, "accounts-url", "",
		"ask the service at this `URL` (http://name:SECRET@127.0.0.1:8090) for the passwords of users who have no account here, by check_credentials; their accounts are made at the first login")
	fs.StringVar(&c.options.InviteURL, "invite", "",
		"the `link` that admins hand out, such as https://chat.example.org/#/register?token={token}, instead of one to the page of this server")
	fs.IntVar(&c.options.Invites, "invites", 5, "how many open invitations a member may have, on the page /_uia/invites or through /_uia/v1/invites, each for up to 10 accounts and 7 days; 0 means that members cannot invite, `number`")
	fs.StringVar(&c.audit, "audit", "", "append a line of JSON for each event to this `file`, instead of writing it with the log")
	fs.Func("admin", "make this account, or make it a server admin's if it is there, `USER[:PASSWORD]`; a password is made up and printed if none is given",
		func(s string) (err error) {
			c.admin, c.generated, err = parseAdmin(s)
			return err
		})
	fs.StringVar(&c.options.BaseURL, "public-url", "", "where clients reach the homeserver, through a proxy in front of it: a `URL` such as https://matrix.example.org")
	var proxies []netip.Prefix
	fs.Func("trusted-proxy", "believe the X-Forwarded-For of the proxy at this `address`, or of all in this network (10.0.0.0/8); can be repeated",
		func(s string) error {
			proxy, err := parseProxy(s)
			proxies = append(proxies, proxy)
			return err
		})
	failures := fs.Int("failures", 60, "wrong tokens and passwords that a client may send at once; 0 means any `number`")
	fs.Func("token", "make this registration token, `VALUE[:uses]`, unless there is one of this value; can be repeated", func(s string) error {
		token, err := parseToken(s)
		c.options.Tokens = append(c.options.Tokens, token)
		return err
	})
	fs.Func("flow", "a way to register: comma-separated auth `types`; can be repeated (default "+typeToken+","+typeDummy+")",
		func(s string) error {
			var flow uia.Flow
			for stage := range strings.SplitSeq(s, ",") {
				flow = append(flow, strings.TrimSpace(stage))
			}
			c.options.Flows = append(c.options.Flows, flow)
			return nil
		})
	if err := fs.Parse(args); errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(stderr, "Homeserver is a Matrix homeserver for experiments with registration. Its flags:")
		fs.SetOutput(stderr)
		fs.PrintDefaults()
		return c, err
	} else if err != nil {
		return c, err
	}
	if fs.NArg() > 0 {
		return c, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	if link := c.options.InviteURL; link != "" && !strings.Contains(link, "{token}") {
		return c, fmt.Errorf("-invite %q has no {token}", link)
	}
	if !hs.ValidServerName(c.options.ServerName) {
		return c, fmt.Errorf("-server-name %q is no host name or address, perhaps with a port", c.options.ServerName)
	}
	if name := c.admin.Localpart; name != "" && !hs.ValidLocalpart(name, c.options.ServerName) {
		return c, fmt.Errorf("-admin %q cannot be the name of a user", name)
	}
	if link := c.options.BaseURL; link != "" && !validURL(link) {
		return c, fmt.Errorf("-public-url %q is no URL of a server, such as https://matrix.example.org", link)
	}
	if link := c.options.AccountsURL; link != "" {
		if _, err := restauth.NewClient(link, c.options.ServerName, nil); err != nil {
			return c, fmt.Errorf("-accounts-url: %w", err)
		}
	}
	c.options.Client = uia.ClientBehind(proxies...)
	if *failures < 0 {
		return c, fmt.Errorf("-failures %d is negative", *failures)
	}
	c.options.Failures = *failures
	if *failures == 0 {
		c.options.Failures = -1
	}
	if len(c.options.Flows) == 0 {
		c.options.Flows = []uia.Flow{{typeToken, typeDummy}}
	}
	wantsToken := slices.ContainsFunc(c.options.Flows, func(f uia.Flow) bool { return slices.Contains(f, typeToken) })
	if len(c.options.Tokens) == 0 && wantsToken {
		token := newToken(uia.GenerateToken(16), new(int64(1)))
		token.Expires = token.Created.Add(24 * time.Hour) // every start makes one, and the database keeps them
		c.options.Tokens = []uia.Token{token}
	}
	return c, nil
}

// parseProxy reads the address of a proxy, or a network.
func parseProxy(s string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(s); err == nil {
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	return netip.ParsePrefix(s)
}

// validURL reports whether clients can put paths behind the URL.
func validURL(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && u.RawQuery == "" && u.Fragment == "" && !strings.HasSuffix(s, "/")
}

// parseAdmin reads USER[:PASSWORD].
func parseAdmin(s string) (c hs.Credentials, generated bool, err error) {
	user, password, given := strings.Cut(s, ":")
	user = register.CanonicalLocalpart(user)
	if user == "" || given && password == "" {
		return c, false, errors.New("a user is needed, and a password if there is a colon")
	}
	if !given {
		password = rand.Text()
	}
	return hs.Credentials{Localpart: user, Password: password}, !given, nil
}

// parseToken reads VALUE[:uses].
func parseToken(s string) (uia.Token, error) {
	value, uses, limited := strings.Cut(strings.TrimSpace(s), ":")
	if !uia.ValidTokenValue(value) {
		return uia.Token{}, fmt.Errorf("a token consists of 1 to %d of A-Z a-z 0-9 . _ ~ -", uia.MaxTokenLength)
	}
	if !limited {
		return newToken(value, nil), nil
	}
	n, err := strconv.ParseInt(uses, 10, 64)
	if err != nil || n < 0 || n > uia.MaxUses {
		return uia.Token{}, fmt.Errorf("%q is not a number of uses", uses)
	}
	return newToken(value, &n), nil
}

func newToken(value string, uses *int64) uia.Token {
	return uia.Token{Value: value, UsesAllowed: uses, Created: time.Now(), CreatedBy: "the command line"}
}
