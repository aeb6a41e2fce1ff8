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
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "homeserver:", err)
		os.Exit(1)
	}
}

// run serves until ctx ends.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	conf, err := parseFlags(args, stderr)
	if err != nil {
		return err
	}
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
	server, err := hs.New(ctx, conf.options)
	if err != nil {
		return err
	}
	adminLine, err := makeAdmin(ctx, server, conf)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", conf.listen)
	if err != nil {
		return err
	}
	hints.print(stdout, "http://"+listener.Addr().String())
	fmt.Fprint(stdout, adminLine)

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

// makeAdmin makes the account of the server admin that is asked for, and returns
// what to print about it.
func makeAdmin(ctx context.Context, server *hs.Server, conf config) (string, error) {
	if conf.admin.Localpart == "" {
		return "", nil
	}
	made, err := server.EnsureAdmin(ctx, conf.admin)
	line := "admin       " + conf.admin.Localpart
	switch {
	case err != nil:
		return "", err
	case !made:
		line += " (was there already, with the password it has)"
	case conf.generated:
		line += " with the password " + conf.admin.Password
	}
	return line + "\n", nil
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
