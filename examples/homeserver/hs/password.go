package hs

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"runtime"
	"strings"

	"golang.org/x/crypto/argon2"
)

// The cost of one hash: OWASP's first recommendation for argon2id, about 20 ms
// of one core and 19 MiB.
const (
	argonMemory  = 19 << 10 // KiB
	argonTime    = 2
	argonThreads = 1
	argonSalt    = 16
	argonKey     = 32
)

// passwords hashes and verifies passwords with argon2id, a few at a time: a
// flood of logins queues for the processor and does not exhaust the memory.
type passwords struct {
	slots chan struct{}
	dummy string // a hash that no password verifies against
}

func newPasswords() *passwords {
	p := &passwords{slots: make(chan struct{}, runtime.GOMAXPROCS(0))}
	salt, key := make([]byte, argonSalt), make([]byte, argonKey)
	rand.Read(salt)
	rand.Read(key)
	p.dummy = encodeHash(salt, key)
	return p
}

// hash returns a hash of password in the usual notation ($argon2id$...).
func (p *passwords) hash(ctx context.Context, password string) (string, error) {
	salt := make([]byte, argonSalt)
	rand.Read(salt)
	key, err := p.derive(ctx, password, salt, argonTime, argonMemory, argonThreads, argonKey)
	if err != nil {
		return "", err
	}
	return encodeHash(salt, key), nil
}

// verify reports whether encoded is a hash of password. An empty one stands for
// a user that does not exist or has no password: it takes as long as any other,
// so that the time tells nobody which users exist.
func (p *passwords) verify(ctx context.Context, encoded, password string) (bool, error) {
	if encoded == "" {
		encoded = p.dummy
	}
	var version, memory, time, threads int
	parts := strings.Split(encoded, "$")
	if len(parts) != 6 || parts[1] != "argon2id" {
		return false, errors.New("hs: unknown kind of password hash")
	}
	if _, err := fmt.Sscanf(parts[2]+" "+parts[3], "v=%d m=%d,t=%d,p=%d", &version, &memory, &time, &threads); err != nil {
		return false, fmt.Errorf("hs: malformed password hash: %w", err)
	}
	salt, err1 := base64.RawStdEncoding.DecodeString(parts[4])
	want, err2 := base64.RawStdEncoding.DecodeString(parts[5])
	if err := errors.Join(err1, err2); err != nil || version != argon2.Version {
		return false, fmt.Errorf("hs: malformed password hash: version %d, %w", version, err)
	}
	got, err := p.derive(ctx, password, salt, uint32(time), uint32(memory), uint8(threads), uint32(len(want)))
	if err != nil {
		return false, err
	}
	return subtle.ConstantTimeCompare(got, want) == 1, nil
}

// derive runs argon2id once there is a slot for it.
func (p *passwords) derive(ctx context.Context, password string, salt []byte, time, memory uint32, threads uint8, size uint32) ([]byte, error) {
	select {
	case p.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-p.slots }()
	return argon2.IDKey([]byte(password), salt, time, memory, threads, size), nil
}

func encodeHash(salt, key []byte) string {
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, argonMemory, argonTime, argonThreads,
		b64.EncodeToString(salt), b64.EncodeToString(key))
}
