// Homeserver is a Matrix homeserver for experimentation on which accounts are
// registered with tokens. It has no rooms.
//
//	go run ./examples/homeserver
//
// prints everything that is needed to register a first account. Everything is
// kept in the file homeserver.db, or wherever -db says: in another file, in
// PostgreSQL (-db postgres://user@host/name), which any number of homeservers may
// share, or nowhere (-db memory).
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/matrix-uia/uia/examples/homeserver/hs"
	"github.com/matrix-uia/uia/signup"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(exitCode(run(ctx, os.Args[1:], os.Stdout, os.Stderr), os.Stderr))
}

// exitCode says what has gone wrong: 2 stands for a mistake on the command line.
func exitCode(err error, stderr io.Writer) int {
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return 0
	}
	fmt.Fprintln(stderr, "homeserver:", err)
	if _, wrong := errors.AsType[usageError](err); wrong {
		fmt.Fprintln(stderr, "homeserver -h shows the flags.")
		return 2
	}
	return 1
}

// run serves until ctx ends.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	conf, err := parseFlags(args, stderr)
	if err != nil {
		return err
	}
	// First, because nothing of what follows is to be there after a start that fails: a
	// token, or an admin whose password nobody has seen.
	listener, err := net.Listen("tcp", conf.listen)
	if err != nil {
		return err
	}
	defer listener.Close()
	storage, err := hs.Open(ctx, conf.db)
	if err != nil {
		return err
	}
	if storage.Close != nil {
		defer storage.Close()
	}
	conf.options.Storage = storage
	conf.options.Logger = slog.New(slog.NewTextHandler(stderr, nil))
	audit, err := openAudit(conf)
	if err != nil {
		return err
	}
	defer audit.Close()
	conf.options.Audit = audit.Logger
	hints, err := newHints(ctx, storage, conf.options)
	if err != nil {
		return err
	}
	base := cmp.Or(conf.options.BaseURL, baseURL(listener.Addr()))
	conf.options.Address = base
	conf.options.InviteURL = cmp.Or(conf.options.InviteURL, signup.InviteURL(base+signup.Path))
	server, err := hs.New(ctx, conf.options)
	if err != nil {
		return err
	}
	hints.print(stdout, base)
	if err := makeAdmin(ctx, server, conf, stdout); err != nil {
		return err
	}

	maintained := make(chan struct{})
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		defer close(maintained)
		server.Maintain(ctx)
	}()
	defer func() {
		cancel()
		<-maintained
	}()
	return serve(ctx, listener, server)
}

// auditLog is where events are written.
type auditLog struct {
	*slog.Logger
	io.Closer
}

// openAudit opens the file that the audit log is kept in; if none is named, the log
// takes its lines too.
func openAudit(conf config) (auditLog, error) {
	if conf.audit == "" {
		return auditLog{conf.options.Logger.With("log", "audit"), io.NopCloser(nil)}, nil
	}
	file, err := os.OpenFile(conf.audit, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return auditLog{}, err
	}
	return auditLog{slog.New(slog.NewJSONHandler(file, nil)), file}, nil
}

// baseURL is where a browser on this machine finds the server: one that listens at all
// addresses listens at localhost too.
func baseURL(addr net.Addr) string {
	host, port, err := net.SplitHostPort(addr.String())
	if err != nil {
		return "http://" + addr.String()
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return "http://" + net.JoinHostPort(host, port)
}

// makeAdmin makes the account of the server admin that is asked for, and prints what
// there is to know about it: a password that was made up before the account is made, so
// that it is not lost whatever happens then.
func makeAdmin(ctx context.Context, server *hs.Server, conf config, stdout io.Writer) error {
	name := conf.admin.Localpart
	if name == "" {
		return nil
	}
	known, err := server.HasUser(ctx, name)
	if err != nil {
		return err
	}
	line := "admin       " + name
	switch {
	case !known && conf.generated:
		fmt.Fprintln(stdout, line+" with the password "+conf.admin.Password)
	case !known:
		fmt.Fprintln(stdout, line)
	}
	// What has been printed is made, also if the program is being stopped.
	switch found, err := server.EnsureAdmin(context.WithoutCancel(ctx), conf.admin); {
	case err != nil:
		return err
	case found == hs.AdminThere:
		fmt.Fprintln(stdout, line+" (was there already, with the password it has)")
	case found == hs.AdminPromoted:
		fmt.Fprintln(stdout, line+" (was there already, with the password it has, and is a server admin from now on)")
	}
	return nil
}

// serve answers requests until ctx ends, and then lets those under way finish.
func serve(ctx context.Context, listener net.Listener, server *hs.Server) error {
	srv := &http.Server{
		Handler:           server,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      2 * time.Minute, // a sync waits for half a minute, and so can a registration
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
	}
	srv.RegisterOnShutdown(server.Close)
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return srv.Shutdown(ctx)
}
