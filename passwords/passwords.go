// Package passwords hashes passwords with argon2id, and verifies them: a few at a time,
// so that a flood of logins costs neither the memory nor all of the processor.
package passwords

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"

	"golang.org/x/crypto/argon2"
)

// The cost of one hash: OWASP's first recommendation for argon2id, about 20 ms of one
// core and 19 MiB.
const (
	argonMemory  = 19 << 10 // KiB
	argonTime    = 2
	argonThreads = 1
	argonSalt    = 16
	argonKey     = 32
)

// defaultWaiting is the default of Options.Waiting: about ten seconds' work of two cores.
const defaultWaiting = 1000

// ErrBusy says that too many passwords wait to be hashed already.
var ErrBusy = errors.New("passwords: too many are waiting to be hashed")

// Options are the options of [New]. A zero field means the default.
type Options struct {
	// Parallel is how many hashes are computed at once. Zero means GOMAXPROCS.
	Parallel int
	// Waiting is how many further ones may wait for their turn. Zero means 1,000.
	Waiting int
}

// Hasher hashes and verifies passwords. It is safe for concurrent use.
type Hasher struct {
	slots chan struct{}
	room  int64        // how many may be computed and wait
	in    atomic.Int64 // how many are
	dummy string       // a hash of no password
}

// New returns a Hasher. Nil means the default options; what is negative in them counts
// as zero.
func New(opts *Options) *Hasher {
	var o Options
	if opts != nil {
		o = *opts
	}
	if o.Parallel <= 0 {
		o.Parallel = runtime.GOMAXPROCS(0)
	}
	if o.Waiting <= 0 {
		o.Waiting = defaultWaiting
	}
	salt, key := make([]byte, argonSalt), make([]byte, argonKey)
	rand.Read(salt)
	rand.Read(key)
	return &Hasher{slots: make(chan struct{}, o.Parallel), room: int64(o.Parallel + o.Waiting), dummy: encode(salt, key)}
}

// Hash returns a hash of the password in the usual notation ($argon2id$...), with a salt
// of its own. It waits for its turn: the error is [ErrBusy] or the context's.
func (h *Hasher) Hash(ctx context.Context, password string) (string, error) {
	salt := make([]byte, argonSalt)
	rand.Read(salt)
	key, err := h.derive(ctx, password, params{argonMemory, argonTime, argonThreads, argonKey}, salt)
	if err != nil {
		return "", err
	}
	return encode(salt, key), nil
}

// Verify reports whether hash is one of the password. An empty hash stands for a user
// that does not exist or has no password: no password is right for it, and the answer
// takes as long as for any other, so that the time tells nobody which users exist. It
// waits for its turn, as Hash does.
func (h *Hasher) Verify(ctx context.Context, hash, password string) (bool, error) {
	if hash == "" {
		hash = h.dummy
	}
	p, salt, want, err := decode(hash)
	if err != nil {
		return false, err
	}
	got, err := h.derive(ctx, password, p, salt)
	if err != nil {
		return false, err
	}
	return subtle.ConstantTimeCompare(got, want) == 1, nil
}

// params are what a hash costs, and how long it is.
type params struct {
	memory, time uint32
	threads      uint8
	size         uint32
}

// derive runs argon2id once there is a slot for it.
func (h *Hasher) derive(ctx context.Context, password string, p params, salt []byte) ([]byte, error) {
	defer h.in.Add(-1)
	if h.in.Add(1) > h.room {
		return nil, ErrBusy
	}
	select {
	case h.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-h.slots }()
	return argon2.IDKey([]byte(password), salt, p.time, p.memory, p.threads, p.size), nil
}

func encode(salt, key []byte) string {
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, argonMemory, argonTime, argonThreads,
		b64.EncodeToString(salt), b64.EncodeToString(key))
}

func decode(hash string) (p params, salt, key []byte, err error) {
	parts := strings.Split(hash, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" {
		return p, nil, nil, errors.New("passwords: unknown kind of hash")
	}
	version := 0
	if _, err := fmt.Sscanf(parts[2]+" "+parts[3], "v=%d m=%d,t=%d,p=%d", &version, &p.memory, &p.time, &p.threads); err != nil {
		return p, nil, nil, fmt.Errorf("passwords: malformed hash: %w", err)
	}
	salt, err1 := base64.RawStdEncoding.DecodeString(parts[4])
	key, err2 := base64.RawStdEncoding.DecodeString(parts[5])
	if errors.Join(err1, err2) != nil || version != argon2.Version || p.time < 1 || p.threads < 1 || len(key) < argonSalt {
		return p, nil, nil, errors.New("passwords: malformed hash")
	}
	p.size = uint32(len(key))
	return p, salt, key, nil
}
