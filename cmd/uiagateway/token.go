package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/register"
	"github.com/matrix-uia/uia/sqlstore"
)

const tokenUsage = `Uiagateway token manages the registration tokens in the database of the configuration.
The gateway may run meanwhile.

  uiagateway token create [flags]         make tokens
  uiagateway token list [flags]           show them: those that can be used, or with -all every one
  uiagateway token revoke [flags] TOKEN ...
                                          let nobody use these tokens any more; uses that were spent stay

Each has -h.
`

// command is one of the commands for tokens. flags adds its own flags and returns what
// runs it.
type command struct {
	flags func(*flag.FlagSet) func(ctx context.Context, t *tokens, args []string) error
	args  bool // it takes arguments
}

var commands = map[string]command{
	"create": {flags: createFlags}, "list": {flags: listFlags}, "revoke": {flags: revokeFlags, args: true},
}

// tokens is what the commands work with.
type tokens struct {
	*config
	store          *sqlstore.Store
	stdout, stderr io.Writer
	json           bool
	now            time.Time
}

// errUsage marks a mistake on the command line.
type errUsage struct{ error }

func runToken(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 || args[0] == "-h" || args[0] == "-help" || args[0] == "--help" || args[0] == "help" {
		fmt.Fprint(stderr, tokenUsage)
		if len(args) == 0 {
			return exitUsage
		}
		return 0
	}
	cmd, ok := commands[args[0]]
	if !ok {
		return fail(stderr, exitUsage, fmt.Errorf("token has no command %q; uiagateway token -h shows them", args[0]))
	}
	flags := flag.NewFlagSet("uiagateway token "+args[0], flag.ContinueOnError)
	flags.SetOutput(stderr)
	name := flags.String("config", "gateway.yaml", "the `file` of the configuration")
	t := &tokens{stdout: stdout, stderr: stderr, now: time.Now()}
	flags.BoolVar(&t.json, "json", false, "write JSON: one object for each token, as the administration API has it")
	do := cmd.flags(flags)
	if err := flags.Parse(args[1:]); errors.Is(err, flag.ErrHelp) {
		return 0
	} else if err != nil {
		return exitUsage
	}
	if !cmd.args && flags.NArg() > 0 {
		return fail(stderr, exitUsage, fmt.Errorf("token %s takes no argument %q", args[0], flags.Arg(0)))
	}
	var loaded bool
	if t.config, loaded = mustLoad(*name, stderr); !loaded {
		return exitUsage
	}
	db, store, err := openDatabase(ctx, t.database)
	if err != nil {
		return fail(stderr, exitFailed, err)
	}
	t.store = store
	err = do(ctx, t, flags.Args())
	if closed := db.Close(); err == nil {
		err = closed
	}
	if wrong, ok := errors.AsType[errUsage](err); ok {
		return fail(stderr, exitUsage, wrong.error)
	} else if err != nil {
		return fail(stderr, exitFailed, err)
	}
	return 0
}

func createFlags(flags *flag.FlagSet) func(context.Context, *tokens, []string) error {
	uses := flags.Int64("uses", 1, "how many accounts a token makes; 0 means any number")
	expires := flags.String("expires", "", "when it ends: after 36h or 7d, or at the end of a day (2026-12-31, UTC); empty means never")
	label := flags.String("label", "", "a note for administrators")
	username := flags.String("username", "", "the only username that the token is for")
	value := flags.String("token", "", "the token itself; empty means that it is made up")
	count := flags.Int("count", 1, "how many tokens to make")
	return func(ctx context.Context, t *tokens, _ []string) error {
		switch {
		case *count < 1 || *count > 1000:
			return errUsage{fmt.Errorf("-count is from 1 to 1000")}
		case *value != "" && *count > 1:
			return errUsage{errors.New("-token is one token, and -count asks for more")}
		case *value == "." || *value == "..":
			return errUsage{errors.New("-token is a path that browsers and proxies resolve: no tool could show the token")}
		case *uses < 0:
			return errUsage{errors.New("-uses is negative")}
		}
		made := uia.Token{Value: *value, Label: *label, Created: t.now, CreatedBy: "uiagateway token create"}
		if *uses > 0 {
			made.UsesAllowed = uses
		}
		var expiryErr, pinErr error
		made.Expires, expiryErr = expiry(*expires, t.now)
		made.Meta, pinErr = t.pin(*username)
		if err := errors.Join(expiryErr, pinErr); err != nil {
			return errUsage{err}
		}
		return t.create(ctx, made, *count)
	}
}

// create creates as many tokens like this one, and shows them. Those without a value get
// one that is made up.
func (t *tokens) create(ctx context.Context, made uia.Token, count int) error {
	var all []uia.Token
	for range count {
		one := made
		if one.Value == "" {
			one.Value = uia.GenerateToken(0)
		}
		all = append(all, one)
	}
	err := t.store.CreateTokens(ctx, all...)
	switch {
	case errors.Is(err, uia.ErrExists):
		return fmt.Errorf("there is a token %s already", made.Value)
	case errors.Is(err, uia.ErrInvalid):
		return errUsage{err}
	case err != nil:
		return err
	}
	return t.show(all)
}

// pin returns the Meta of a token that is for one name.
func (t *tokens) pin(username string) (json.RawMessage, error) {
	if username == "" {
		return nil, nil
	}
	meta, err := json.Marshal(map[string]string{"username": register.CanonicalLocalpart(username)})
	if err != nil {
		return nil, err
	}
	return meta, (&register.Registration{ServerName: t.serverName}).CheckMeta(meta)
}

// expiry reads when a token ends.
func expiry(typed string, now time.Time) (time.Time, error) {
	if typed == "" {
		return time.Time{}, nil
	}
	if day, err := time.Parse(time.DateOnly, typed); err == nil {
		if end := day.AddDate(0, 0, 1); end.After(now) {
			return end, nil
		}
		return time.Time{}, fmt.Errorf("-expires: %s is over", typed)
	}
	var d time.Duration
	days, err := strconv.Atoi(strings.TrimSuffix(typed, "d"))
	if err == nil && strings.HasSuffix(typed, "d") && days < 100*366 {
		d = time.Duration(days) * 24 * time.Hour
	} else if d, err = time.ParseDuration(typed); err != nil {
		return time.Time{}, fmt.Errorf("-expires: %q is neither a time such as 36h or 7d nor a day such as 2026-12-31", typed)
	}
	if d <= 0 {
		return time.Time{}, fmt.Errorf("-expires: %q has passed already", typed)
	}
	return now.Add(d).UTC().Truncate(time.Millisecond), nil
}

func listFlags(flags *flag.FlagSet) func(context.Context, *tokens, []string) error {
	all := flags.Bool("all", false, "show those that cannot be used any more too")
	return func(ctx context.Context, t *tokens, _ []string) error {
		q := uia.TokenQuery{Limit: 1000}
		if !*all {
			q.Valid = new(true)
		}
		var out []uia.Token
		for {
			page, err := t.store.ListTokens(ctx, q, t.now)
			if err != nil {
				return err
			}
			out = append(out, page.Tokens...)
			if q.After = page.Next; q.After == nil {
				return t.show(out)
			}
		}
	}
}

func revokeFlags(*flag.FlagSet) func(context.Context, *tokens, []string) error {
	return func(ctx context.Context, t *tokens, args []string) error {
		if len(args) == 0 {
			return errUsage{errors.New("token revoke needs the tokens to be revoked")}
		}
		var out []uia.Token
		var failures []error
		for _, value := range args {
			token, err := t.store.UpdateToken(ctx, value, uia.TokenPatch{Revoked: new(true)}, t.now)
			switch {
			case errors.Is(err, uia.ErrNotFound):
				failures = append(failures, fmt.Errorf("there is no token %s", value))
			case err != nil:
				failures = append(failures, err)
			default:
				out = append(out, token)
			}
		}
		if len(out) > 0 {
			failures = append(failures, t.show(out))
		}
		return errors.Join(failures...)
	}
}

// show writes the tokens as a table, or as JSON.
func (t *tokens) show(all []uia.Token) error {
	if t.json {
		encoder := json.NewEncoder(t.stdout)
		encoder.SetEscapeHTML(false)
		for _, token := range all {
			if err := encoder.Encode(t.record(token)); err != nil {
				return err
			}
		}
		return nil
	}
	if len(all) == 0 {
		_, err := fmt.Fprintln(t.stderr, "no tokens")
		return err
	}
	w := tabwriter.NewWriter(t.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "TOKEN\tUSES\tEXPIRES (UTC)\tSTATE\tFOR\tLABEL\tLINK")
	for _, token := range all {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", token.Value, usesOf(token), expiresOf(token), t.stateOf(token), or(nameOf(token), "anybody"),
			or(token.Label, "-"), or(t.link(token), "-"))
	}
	return w.Flush()
}

func or(s, instead string) string {
	if s == "" {
		return instead
	}
	return s
}

func (t *tokens) link(token uia.Token) string {
	return strings.ReplaceAll(t.inviteLink, "{token}", token.Value)
}

func usesOf(token uia.Token) string {
	used := strconv.FormatInt(token.Completed, 10)
	if token.Pending > 0 {
		used += "+" + strconv.FormatInt(token.Pending, 10)
	}
	if token.UsesAllowed == nil {
		return used + " of any"
	}
	return used + " of " + strconv.FormatInt(*token.UsesAllowed, 10)
}

func expiresOf(token uia.Token) string {
	if token.Expires.IsZero() {
		return "never"
	}
	return token.Expires.UTC().Format("2006-01-02 15:04")
}

func (t *tokens) stateOf(token uia.Token) string {
	switch err := token.Usable(t.now); {
	case err == nil:
		return "valid"
	case errors.Is(err, uia.ErrRevoked):
		return "revoked"
	case errors.Is(err, uia.ErrExpired):
		return "expired"
	case token.Pending > 0:
		return "in use"
	}
	return "used up"
}

func nameOf(token uia.Token) string {
	pin, err := register.ReadPin(token.Meta)
	if err != nil {
		return "?"
	}
	return or(pin.Username, pin.Pattern)
}

// record is a token as the administration API shows it, as far as that concerns a shell.
type record struct {
	Token       string          `json:"token"`
	UsesAllowed *int64          `json:"uses_allowed"`
	Pending     int64           `json:"pending"`
	Completed   int64           `json:"completed"`
	ExpiryTime  *int64          `json:"expiry_time"` // milliseconds since 1970
	State       string          `json:"state"`
	Label       string          `json:"label"`
	Meta        json.RawMessage `json:"meta,omitempty"`
	InviteURL   string          `json:"invite_url,omitempty"`
}

func (t *tokens) record(token uia.Token) record {
	r := record{
		Token: token.Value, UsesAllowed: token.UsesAllowed, Pending: token.Pending, Completed: token.Completed,
		State: t.stateOf(token), Label: token.Label, Meta: token.Meta, InviteURL: t.link(token),
	}
	if !token.Expires.IsZero() {
		r.ExpiryTime = new(token.Expires.UnixMilli())
	}
	return r
}
