// Uiacheck measures a homeserver: whether it registers accounts with
// User-Interactive Authentication and registration tokens as the Matrix
// specification says, as is right, and as real clients need it.
//
//	uiacheck -url http://127.0.0.1:8008 -admin-token syt_...
//	uiacheck -url http://127.0.0.1:8008 -tokens first,second,third
//
// The homeserver may be written in any language. It gets some forty accounts
// named uiatest-..., so measure one that is there for tests. Package uiatest
// describes what is measured, and what the levels must, should and client mean.
//
// The exit status is 0 if every case at the level must that applies passes, 1 if
// one fails (with -strict: one of any level), and 2 if the homeserver could not be
// measured, or not to the end.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/matrix-uia/uia/uiatest"
)

// The exit statuses.
const (
	exitPassed = 0
	exitFailed = 1
	exitBroken = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	info, err := os.Stderr.Stat()
	terminal := err == nil && info.Mode()&os.ModeCharDevice != 0
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr, terminal))
}

// config is what the command line says.
type config struct {
	server  uiatest.Server
	options uiatest.Options
	timeout time.Duration
	format  func(io.Writer, *result) error
	list    bool
	strict  bool
}

func parseFlags(args []string, stdout io.Writer) (c config, err error) {
	fs := flag.NewFlagSet("uiacheck", flag.ContinueOnError)
	fs.SetOutput(io.Discard) // an error is printed in one line
	fs.StringVar(&c.server.URL, "url", "", "the homeserver's `address`, such as http://127.0.0.1:8008")
	fs.StringVar(&c.server.AdminToken, "admin-token", "", "an administrator's access `token`, to make registration tokens with (default $UIACHECK_ADMIN_TOKEN)")
	tokens := fs.String("tokens", "", "unused registration tokens of one use each, `a,b,c`, where there is no administration")
	lacks := fs.String("lacks", "", "leave out what the homeserver does not offer: `a,b,c` of "+strings.Join(uiatest.Features(), ", "))
	fs.BoolVar(&c.server.Closed, "closed", false, "registration is off: measure only that")
	fs.StringVar(&c.server.Password, "password", "", "give the accounts this `password`, if the homeserver's policy refuses those that are made up")
	fs.StringVar(&c.server.AppServiceToken, "as-token", "", "an application service's access `token`, for the cases about those (default $UIACHECK_AS_TOKEN)")
	fs.StringVar(&c.server.AppServicePrefix, "as-prefix", "_uiatest_", "the usernames that the application service may register begin with this `prefix`")
	fs.DurationVar(&c.server.Patience, "patience", 0, "let a case wait for this `time`: 6m for those that come back to a session after minutes")
	match := fs.String("run", "", "run the cases whose names match this regular `expression`")
	levels := fs.String("levels", "", "run the cases of these `levels`: a,b,c of must, should, client")
	fs.DurationVar(&c.timeout, "timeout", 15*time.Minute, "give up after this `time`")
	fs.Float64Var(&c.options.Rate, "rate", 20, "send this `number` of requests per second at most")
	fs.IntVar(&c.options.Parallel, "parallel", 1, "run this `number` of cases side by side")
	fs.IntVar(&c.options.Guesses, "guesses", 50, "make this `number` of wrong guesses in each way to guess, to see whether it is limited")
	asJSON := fs.Bool("json", false, "report in JSON")
	asJUnit := fs.Bool("junit", false, "report in JUnit's XML")
	asHTML := fs.Bool("html", false, "report as one page of HTML, to send to somebody")
	fs.BoolVar(&c.list, "list", false, "list the cases, and run none")
	fs.BoolVar(&c.strict, "strict", false, "fail for cases of every level, not only must")
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			fs.SetOutput(stdout)
			help(fs)
		}
		return c, err
	}
	split := func(s string) []string { return strings.FieldsFunc(s, func(r rune) bool { return r == ',' }) }
	c.server.Tokens, c.server.Lacks = split(*tokens), split(*lacks)
	c.server.AdminToken = cmp.Or(c.server.AdminToken, os.Getenv("UIACHECK_ADMIN_TOKEN"))
	c.server.AppServiceToken = cmp.Or(c.server.AppServiceToken, os.Getenv("UIACHECK_AS_TOKEN"))
	for _, level := range split(*levels) {
		switch l := uiatest.Level(level); l {
		case uiatest.Must, uiatest.Should, uiatest.Client:
			c.options.Levels = append(c.options.Levels, l)
		default:
			return c, fmt.Errorf("-levels: there is no level %q", level)
		}
	}
	if c.options.Match, err = regexp.Compile(*match); err != nil {
		return c, fmt.Errorf("-run: %w", err)
	}
	c.format = writeText
	formats := 0
	for _, asked := range []bool{*asJSON, *asJUnit, *asHTML} {
		if asked {
			formats++
		}
	}
	switch {
	case fs.NArg() > 0:
		return c, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	case formats > 1:
		return c, errors.New("-json, -junit and -html exclude each other")
	case c.server.URL == "" && !c.list:
		return c, errors.New("-url is missing")
	case c.options.Rate <= 0 || c.timeout <= 0 || c.options.Parallel <= 0 || c.options.Guesses <= 0:
		return c, errors.New("-rate, -timeout, -parallel and -guesses must be greater than zero")
	case *asJSON:
		c.format = writeJSON
	case *asJUnit:
		c.format = writeJUnit
	case *asHTML:
		c.format = writeHTML
	}
	if len(c.options.Select()) == 0 {
		return c, errors.New("no case matches")
	}
	return c, nil
}

// run does everything, and returns the exit status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer, terminal bool) int {
	c, err := parseFlags(args, stdout)
	if errors.Is(err, flag.ErrHelp) {
		return exitPassed
	}
	if err != nil {
		fmt.Fprintln(stderr, "uiacheck:", oneLine(err)+"; uiacheck -h describes everything")
		return exitBroken
	}
	if c.list {
		listCases(stdout, c.options.Select())
		return exitPassed
	}
	ctx, cancel := context.WithTimeoutCause(ctx, c.timeout, fmt.Errorf("it took longer than %v", c.timeout))
	defer cancel()
	begun := time.Now()
	if terminal {
		c.options.Progress = progress(stderr, begun)
	}
	reports, err := uiatest.Run(ctx, c.server, &c.options)
	if terminal {
		fmt.Fprint(stderr, "\r\033[K")
	}
	result := &result{URL: shown(c.server.URL), Reports: reports, Began: begun, Took: time.Since(begun), Error: err}
	total := result.Total()
	if len(reports) > 0 {
		if err := c.format(stdout, result); err != nil {
			fmt.Fprintln(stderr, "uiacheck: writing the report:", err)
			return exitBroken
		}
	}
	if err == nil && total.Passed+total.Failed == 0 {
		err = errors.New("no case is applicable")
	}
	if err != nil {
		fmt.Fprintln(stderr, "uiacheck:", oneLine(err))
		return exitBroken
	}
	failed := total.failed(uiatest.Must)
	if c.strict {
		failed = total.Failed
	}
	if failed > 0 {
		return exitFailed
	}
	return exitPassed
}

// flags are the flags that stand for fields of [uiatest.Server].
var flags = map[string]string{
	"AdminToken": "-admin-token", "Tokens": "-tokens", "Password": "-password", "Closed": "-closed", "Lacks": "-lacks", "Flows": "registration",
}

// oneLine returns an error in words that help the user of the command to correct it.
func oneLine(err error) string {
	text := strings.TrimPrefix(err.Error(), "uiatest: ")
	if setup, ok := errors.AsType[*uiatest.SetupError](err); ok {
		text = cmp.Or(flags[setup.Field], setup.Field) + ": " + setup.Problem
	}
	return strings.ReplaceAll(text, "\n", "; ")
}

// shown is an address without a password.
func shown(address string) string {
	if u, err := url.Parse(address); err == nil {
		return u.Redacted()
	}
	return address
}

// progress writes a line that is overwritten after each case. The time that is left is
// what the rest takes if it goes on as it went so far.
func progress(w io.Writer, begun time.Time) func(done, total int, r uiatest.Report) {
	failed := 0
	return func(done, total int, r uiatest.Report) {
		if r.Outcome == uiatest.Failed {
			failed++
		}
		left := time.Since(begun) / time.Duration(done) * time.Duration(total-done)
		fmt.Fprintf(w, "\r\033[K%d of %d, %d failed, about %v left  %.50s", done, total, failed, left.Round(time.Second), r.Name)
	}
}

// listCases writes the cases with what they stand on.
func listCases(w io.Writer, cases []uiatest.Case) {
	for _, c := range cases {
		needs := ""
		if len(c.Needs) > 0 {
			needs = "  [" + strings.Join(c.Needs, " ") + "]"
		}
		fmt.Fprintf(w, "%-6s  %s%s\n        %s\n        (%s)\n", c.Level, c.Name, needs, c.Says, c.Place)
	}
}
