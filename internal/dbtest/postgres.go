package dbtest

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/matrix-uia/uia/internal/testenv"
)

// ErrNoPostgres says that this machine has no PostgreSQL server binaries.
var ErrNoPostgres = errors.New("no PostgreSQL here: install the package postgresql, or set UIA_TEST_POSTGRES")

// Server is a PostgreSQL cluster of our own, on a unix socket.
type Server struct {
	Dir    string // everything: data, socket, log
	Port   int    // names the socket; nothing listens on a network
	bin    string
	cred   *syscall.Credential
	params []string
	run    *testenv.Process
}

// superuser owns the cluster, whichever system user runs it.
const superuser = "uia"

// NewServer makes a cluster and starts it. Each of params is a setting, such as
// "fsync=off". If dir is not empty it is an existing data folder, for a standby.
func NewServer(params ...string) (*Server, error) {
	s, err := emptyServer(params...)
	if err != nil {
		return nil, err
	}
	out, err := s.command("initdb", "-D", s.data(), "-U", superuser, "-A", "trust", "-E", "UTF8", "--locale=C", "-N").CombinedOutput()
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("initdb: %w\n%s", err, out)
	}
	if err := s.Start(); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// NewStandby makes a copy of s that follows it, and starts it.
func (s *Server) NewStandby(name string, params ...string) (*Server, error) {
	standby, err := emptyServer(params...)
	if err != nil {
		return nil, err
	}
	out, err := standby.command("pg_basebackup", "-D", standby.data(), "-R", "-X", "stream", "-c", "fast",
		"-d", fmt.Sprintf("host=%s port=%d user=%s application_name=%s", s.socket(), s.Port, superuser, name)).CombinedOutput()
	if err != nil {
		standby.Close()
		return nil, fmt.Errorf("pg_basebackup: %w\n%s", err, out)
	}
	if err := standby.Start(); err != nil {
		standby.Close()
		return nil, err
	}
	return standby, nil
}

func emptyServer(params ...string) (*Server, error) {
	bin, err := postgresBin()
	if err != nil {
		return nil, err
	}
	// A short path, because a socket's may have about a hundred bytes.
	dir, err := os.MkdirTemp("/tmp", "uia-pg-")
	if err != nil {
		return nil, err
	}
	s := &Server{Dir: dir, Port: 5432, bin: bin, params: params}
	err = os.Mkdir(s.socket(), 0o700)
	if err == nil && os.Getuid() == 0 {
		// The server refuses to run as root.
		s.cred, err = unprivileged()
		if err == nil {
			err = errors.Join(os.Chown(dir, int(s.cred.Uid), int(s.cred.Gid)), os.Chown(s.socket(), int(s.cred.Uid), int(s.cred.Gid)))
		}
	}
	if err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	return s, nil
}

func (s *Server) data() string   { return filepath.Join(s.Dir, "data") }
func (s *Server) socket() string { return filepath.Join(s.Dir, "sock") }

// command runs one of PostgreSQL's programs, without the caller's privileges and
// without the environment that would change where it connects to.
func (s *Server) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, name), args...)
	cmd.Dir = s.Dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "TZ=UTC"}
	if s.cred != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.cred}
	}
	return cmd
}

// Start starts the cluster and waits until it answers.
func (s *Server) Start() error {
	args := []string{"-D", s.data(), "-k", s.socket(), "-p", strconv.Itoa(s.Port),
		"-c", "listen_addresses=", "-c", "max_connections=300", "-c", "unix_socket_permissions=0777"}
	for _, p := range s.params {
		args = append(args, "-c", p)
	}
	log, err := os.OpenFile(filepath.Join(s.Dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := s.command("postgres", args...)
	s.run, err = testenv.Start(cmd, log, s.Dir)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	ready := func() bool {
		conn, err := pgx.Connect(ctx, s.URL("postgres"))
		if err == nil {
			err = conn.Close(ctx)
		}
		return err == nil
	}
	if err := testenv.Poll(ctx, ready, s.run.Done()); err != nil {
		text, _ := os.ReadFile(filepath.Join(s.Dir, "log"))
		return fmt.Errorf("postgres does not answer: %w\n%s", err, text)
	}
	return nil
}

// Stop stops the cluster: "fast" is orderly, "immediate" is like a crash.
func (s *Server) Stop(mode string) error {
	if s.run == nil {
		return nil
	}
	out, err := s.command("pg_ctl", "stop", "-w", "-D", s.data(), "-m", mode).CombinedOutput()
	if err != nil {
		return fmt.Errorf("pg_ctl stop: %w\n%s", err, out)
	}
	s.run.Wait()
	s.run = nil
	return nil
}

// Promote makes a standby the primary.
func (s *Server) Promote() error {
	out, err := s.command("pg_ctl", "promote", "-w", "-D", s.data()).CombinedOutput()
	if err != nil {
		return fmt.Errorf("pg_ctl promote: %w\n%s", err, out)
	}
	return nil
}

// Close stops the cluster and removes it.
func (s *Server) Close() error {
	err := s.Stop("immediate")
	return errors.Join(err, os.RemoveAll(s.Dir))
}

// URL is the DSN of a database, with further parameters such as "a=b".
func (s *Server) URL(database string, params ...string) string {
	q := url.Values{"host": {s.socket()}, "port": {strconv.Itoa(s.Port)}, "user": {superuser}, "sslmode": {"disable"}}
	for _, p := range params {
		name, value, _ := strings.Cut(p, "=")
		q.Set(name, value)
	}
	return "postgres:///" + database + "?" + q.Encode()
}

// postgresBin finds the folder of the server's programs.
func postgresBin() (string, error) {
	var dirs []string
	if path, err := exec.LookPath("initdb"); err == nil {
		// It can be a link to the one that has the others beside it.
		if path, err = filepath.EvalSymlinks(path); err == nil {
			dirs = append(dirs, filepath.Dir(path))
		}
	}
	if out, err := exec.Command("pg_config", "--bindir").Output(); err == nil {
		dirs = append(dirs, strings.TrimSpace(string(out)))
	}
	debian, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	slices.SortFunc(debian, func(a, b string) int { return version(b) - version(a) })
	for _, dir := range append(dirs, debian...) {
		_, err1 := os.Stat(filepath.Join(dir, "initdb"))
		_, err2 := os.Stat(filepath.Join(dir, "postgres"))
		if err1 == nil && err2 == nil {
			return dir, nil
		}
	}
	return "", ErrNoPostgres
}

// version reads the number in /usr/lib/postgresql/15/bin.
func version(bin string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(bin)))
	return n
}

// unprivileged is the user that the server runs as when the tests run as root.
func unprivileged() (*syscall.Credential, error) {
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err1 == nil && err2 == nil {
			return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
		}
	}
	return nil, errors.New("running as root, and there is neither a user postgres nor nobody to run PostgreSQL as")
}
