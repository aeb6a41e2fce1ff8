package dbtest

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/matrix-uia/uia/sqlstore"
)

// workerConfig is what a worker process is started with, as JSON in UIA_WORKER.
type workerConfig struct {
	Driver   string
	Dialect  sqlstore.Dialect
	DSN      string
	Accounts string // the DSN of another database for the accounts; empty: the same
	Socket   string // where it serves
	LeaseTTL time.Duration
	Skew     time.Duration
	Rotate   time.Duration
	Conns    int
	Migrate  bool // wait for a line, migrate, print the secret and end
}

// runWorker serves registrations until the parent process is gone, if this
// process was started as a worker.
func runWorker() bool {
	text := os.Getenv("UIA_WORKER")
	if text == "" {
		return false
	}
	if err := serve(text); err != nil {
		fmt.Fprintln(os.Stderr, "worker:", err)
		os.Exit(1)
	}
	return true
}

func serve(text string) error {
	var c workerConfig
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		return err
	}
	if c.Migrate {
		return c.migrate()
	}
	a, err := c.app(slog.LevelError + 100)
	if err != nil {
		return err
	}
	l, err := net.Listen("unix", c.Socket)
	if err != nil {
		return err
	}
	go func() {
		// The parent holds the other end.
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	fmt.Println("ready")
	return http.Serve(l, a)
}

func (c workerConfig) migrate() error {
	db, err := sql.Open(c.Driver, c.DSN)
	if err != nil {
		return err
	}
	defer db.Close()
	fmt.Println("ready")
	if _, err := os.Stdin.Read(make([]byte, 3)); err != nil {
		return err
	}
	store, err := sqlstore.New(db, c.Dialect)
	if err != nil {
		return err
	}
	if err := store.Migrate(context.Background()); err != nil {
		return err
	}
	secrets, err := store.Secrets(0)(context.Background(), time.Now())
	fmt.Printf("%x\n", secrets)
	return err
}

// app opens the databases and makes the app. It does not migrate.
func (c workerConfig) app(level slog.Level) (*app, error) {
	open := func(dsn string) (*sql.DB, error) {
		db, err := sql.Open(c.Driver, dsn)
		if err == nil {
			db.SetMaxOpenConns(c.Conns)
			db.SetMaxIdleConns(c.Conns)
		}
		return db, err
	}
	db, err := open(c.DSN)
	if err != nil {
		return nil, err
	}
	store, err := sqlstore.New(db, c.Dialect)
	if err != nil {
		return nil, err
	}
	var accounts *sql.DB
	if c.Accounts != "" {
		if accounts, err = open(c.Accounts); err != nil {
			return nil, err
		}
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	a, err := newApp(store, accounts, appConfig{LeaseTTL: c.LeaseTTL, Rotate: c.Rotate, Skew: c.Skew, Log: log})
	if err != nil {
		return nil, err
	}
	a.close = func() {
		db.Close()
		if accounts != nil {
			accounts.Close()
		}
	}
	return a, nil
}
