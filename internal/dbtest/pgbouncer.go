package dbtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/matrix-uia/uia/internal/testenv"
)

// ErrNoPgBouncer says that this machine has no pgbouncer.
var ErrNoPgBouncer = errors.New("no PgBouncer here: install the package pgbouncer")

// Bouncer is a PgBouncer in front of a Server, in transaction pooling.
type Bouncer struct {
	*Server // Dir, URL and so on, on another socket
	run     *testenv.Process
}

const bouncerConfig = `[databases]
* = host=%s port=%d user=%s
[pgbouncer]
listen_addr =
listen_port = 5432
unix_socket_dir = %s
auth_type = any
pool_mode = transaction
default_pool_size = 6
max_client_conn = 500
ignore_startup_parameters = extra_float_digits
`

// NewBouncer starts a PgBouncer in front of s, with few connections for many
// clients, so that a client's transactions run on different ones.
func NewBouncer(s *Server) (*Bouncer, error) {
	path, err := exec.LookPath("pgbouncer")
	if err != nil {
		path = "/usr/sbin/pgbouncer"
		if _, err := os.Stat(path); err != nil {
			return nil, ErrNoPgBouncer
		}
	}
	inner, err := emptyServer()
	if err != nil {
		return nil, err
	}
	b := &Bouncer{Server: inner}
	file := filepath.Join(b.Dir, "pgbouncer.ini")
	config := fmt.Sprintf(bouncerConfig, s.socket(), s.Port, superuser, b.socket())
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		b.Close()
		return nil, err
	}
	log, err := os.OpenFile(filepath.Join(b.Dir, "log"), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		b.Close()
		return nil, err
	}
	defer log.Close()
	cmd := b.command("pgbouncer", file)
	cmd.Path = path
	if b.run, err = testenv.Start(cmd, log, b.Dir); err != nil {
		b.Close()
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	err = testenv.Poll(ctx, func() bool {
		conn, err := pgx.Connect(ctx, b.URL("postgres", "default_query_exec_mode=exec"))
		if err == nil {
			err = conn.Close(ctx)
		}
		return err == nil
	}, b.run.Done())
	if err != nil {
		text, _ := os.ReadFile(filepath.Join(b.Dir, "log"))
		b.Close()
		return nil, fmt.Errorf("pgbouncer does not answer: %w\n%s", err, text)
	}
	return b, nil
}

// Close stops the PgBouncer.
func (b *Bouncer) Close() error {
	if b.run != nil {
		b.run.Stop()
	}
	return os.RemoveAll(b.Dir)
}
