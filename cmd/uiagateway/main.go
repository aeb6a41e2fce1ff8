// Uiagateway registers people with tokens at a Matrix homeserver that stands behind it, in
// whatever language that is written, and passes everything else on.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

// The exit statuses.
const (
	exitFailed = 1 // it could not be done, or -check has found something severe
	exitUsage  = 2 // the command line or the configuration is wrong
)

const usage = `Uiagateway gives a Matrix homeserver registration with tokens: it stands in front of it.

  uiagateway -generate-config [-config FILE] [-set KEY=VALUE ...]
        write a commented configuration; FILE is never overwritten
  uiagateway [-config FILE]
        run the gateway
  uiagateway -check [-config FILE]
        look at the homeserver, say what its operator should know, and end:
        with status 0 if nothing is severe, otherwise with 1
  uiagateway token create|list|revoke [-h]
        manage the tokens from the shell

The flags:
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	status := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}

// run is the command. It returns the exit status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) > 0 && args[0] == "token" {
		return runToken(ctx, args[1:], stdout, stderr)
	}
	flags := flag.NewFlagSet("uiagateway", flag.ContinueOnError)
	flags.SetOutput(stderr)
	name := flags.String("config", "gateway.yaml", "the `file` of the configuration")
	checkOnly := flags.Bool("check", false, "look at the homeserver and end")
	generateOnly := flags.Bool("generate-config", false, "write a configuration and end")
	set := values{}
	flags.Var(set, "set", "with -generate-config: `KEY=VALUE` of the configuration; can be repeated, elements of a list have commas between them")
	flags.Usage = func() {
		fmt.Fprint(stderr, usage)
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return 0
	} else if err != nil {
		return exitUsage
	}
	switch {
	case flags.NArg() > 0:
		return fail(stderr, exitUsage, fmt.Errorf("%q is no command; uiagateway -h shows how to call it", flags.Arg(0)))
	case len(set) > 0 && !*generateOnly:
		return fail(stderr, exitUsage, errors.New("-set is for -generate-config: change the file instead"))
	case *generateOnly:
		return runGenerate(*name, set, stdout, stderr)
	}
	c, ok := mustLoad(*name, stderr)
	if !ok {
		return exitUsage
	}
	g, err := newGate(ctx, c, newLogger(stderr, c))
	if err != nil {
		return fail(stderr, exitFailed, err)
	}
	if *checkOnly {
		return report(ctx, g, stdout, stderr)
	}
	if err := errors.Join(g.serve(ctx), g.close()); err != nil {
		return fail(stderr, exitFailed, err)
	}
	return 0
}

// fail says what is wrong, a line for each part.
func fail(stderr io.Writer, status int, err error) int {
	for line := range strings.Lines(err.Error()) {
		fmt.Fprintln(stderr, "uiagateway: "+strings.TrimSpace(line))
	}
	return status
}

// mustLoad reads the configuration, and says what is wrong with it.
func mustLoad(name string, stderr io.Writer) (c *config, ok bool) {
	c, warnings, err := load(name)
	for _, w := range warnings {
		fmt.Fprintln(stderr, "uiagateway: warning: "+w)
	}
	if many, wrong := errors.AsType[mistakes](err); wrong {
		for _, one := range many {
			where := name
			if one.line > 0 {
				where = fmt.Sprintf("%s:%d", name, one.line)
			}
			fmt.Fprintf(stderr, "%s: %s\n", where, one.text)
		}
		return nil, false
	}
	if errors.Is(err, os.ErrNotExist) {
		err = fmt.Errorf("there is no %s: uiagateway -generate-config -config %s writes one", name, name)
	}
	if err != nil {
		fail(stderr, exitUsage, err)
		return nil, false
	}
	return c, true
}

func runGenerate(name string, set values, stdout, stderr io.Writer) int {
	text, err := generate(set)
	if err != nil {
		return fail(stderr, exitUsage, err)
	}
	if err := writeNew(name, text); err != nil {
		return fail(stderr, exitFailed, err)
	}
	fmt.Fprintln(stdout, "written:", name)
	if _, warnings, err := load(name); err != nil {
		fmt.Fprintln(stdout, "still to be filled in:")
		if many, ok := errors.AsType[mistakes](err); ok {
			for _, one := range many {
				fmt.Fprintln(stdout, "  "+one.text)
			}
		}
	} else {
		for _, w := range warnings {
			fmt.Fprintln(stderr, "uiagateway: warning: "+w)
		}
	}
	return 0
}

// report writes what a look at the homeserver finds.
func report(ctx context.Context, g *gate, stdout, stderr io.Writer) int {
	status := 0
	findings := g.check(ctx)
	for _, f := range findings {
		level := "warning"
		if f.Severe {
			level, status = "severe", exitFailed
		}
		fmt.Fprintf(stdout, "%s: %s\n", level, f.Text)
	}
	if len(findings) == 0 {
		fmt.Fprintln(stdout, "ok: nobody registers past the gateway, and passwords log in")
	}
	if err := g.close(); err != nil {
		return fail(stderr, exitFailed, err)
	}
	return status
}

// values are the -set flags.
type values map[string]string

func (v values) String() string { return "" }

func (v values) Set(s string) error {
	key, value, ok := strings.Cut(s, "=")
	if !ok || key == "" {
		return errors.New("is not KEY=VALUE")
	}
	if _, twice := v[key]; twice {
		return fmt.Errorf("%s is there twice", key)
	}
	v[key] = value
	return nil
}
