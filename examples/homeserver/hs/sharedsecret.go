package hs

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/register"
)

// nonceTTL is how long a nonce of the shared-secret registration is good for.
const nonceTTL = time.Minute

// sharedSecret is Synapse's shared-secret registration (/_synapse/admin/v1/register), by
// which existing tools make accounts without logging in: a client proves by an HMAC over
// a nonce that it knows the secret.
type sharedSecret struct {
	secret []byte
	now    func() time.Time

	mu   sync.Mutex
	used map[string]time.Time // nonces that made an account, until they expire
}

func newSharedSecret(secret string) *sharedSecret {
	return &sharedSecret{secret: []byte(secret), now: time.Now, used: make(map[string]time.Time)}
}

// nonce makes a nonce. It carries its expiry and our own MAC, so that asking for
// any number of them takes no memory: only those that made an account are kept.
func (s *sharedSecret) nonce() string {
	body := binary.BigEndian.AppendUint64(nil, uint64(s.now().Add(nonceTTL).UnixMilli()))
	body = append(body, rand.Text()...)
	return base64.RawURLEncoding.EncodeToString(append(body, s.seal(body)...))
}

// seal is keyed differently from the MAC of a registration.
func (s *sharedSecret) seal(body []byte) []byte {
	mac := hmac.New(sha256.New, s.secret)
	mac.Write([]byte("nonce\x00"))
	mac.Write(body)
	return mac.Sum(nil)
}

// fresh reports whether nonce is ours and has not expired.
func (s *sharedSecret) fresh(nonce string) bool {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(nonce)
	if err != nil || len(raw) < 8+sha256.Size {
		return false
	}
	body, sealed := raw[:len(raw)-sha256.Size], raw[len(raw)-sha256.Size:]
	if !hmac.Equal(sealed, s.seal(body)) {
		return false
	}
	return s.now().Before(time.UnixMilli(int64(binary.BigEndian.Uint64(body))))
}

// use marks a fresh nonce as used. Of several calls one returns true.
func (s *sharedSecret) use(nonce string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	for n, until := range s.used {
		if !now.Before(until) {
			delete(s.used, n)
		}
	}
	if _, used := s.used[nonce]; used {
		return false
	}
	s.used[nonce] = now.Add(nonceTTL)
	return true
}

// secretRegistration is the body of a shared-secret registration.
type secretRegistration struct {
	Nonce    string
	Username string
	Password string
	Admin    bool
	UserType *string `json:"user_type"`
	MAC      string
}

// sign returns the MAC that a right registration has.
func (s *sharedSecret) sign(req secretRegistration) []byte {
	admin := "notadmin"
	if req.Admin {
		admin = "admin"
	}
	fields := []string{req.Nonce, req.Username, req.Password, admin}
	if req.UserType != nil {
		fields = append(fields, *req.UserType)
	}
	mac := hmac.New(sha1.New, s.secret)
	mac.Write([]byte(strings.Join(fields, "\x00")))
	return mac.Sum(nil)
}

func (s *Server) secretNonce(*http.Request) (any, error) {
	return map[string]string{"nonce": s.shared.nonce()}, nil
}

func (s *Server) secretRegister(r *http.Request) (any, error) {
	var req secretRegistration
	if err := readJSON(r, &req); err != nil {
		return nil, err
	}
	mac, _ := hex.DecodeString(req.MAC)
	refuse := func(status int, m spec.MatrixError) (any, error) { return nil, uia.NewError(status, m) }
	switch {
	case !s.shared.fresh(req.Nonce):
		return refuse(http.StatusBadRequest, spec.Unknown("unrecognised nonce"))
	case strings.Contains(req.Username+req.Password, "\x00"): // it separates the fields of the MAC
		return refuse(http.StatusBadRequest, spec.Unknown("Invalid username or password"))
	case req.Password == "":
		return refuse(http.StatusBadRequest, spec.Unknown("Password must be specified"))
	case !hmac.Equal(mac, s.shared.sign(req)):
		s.guessed(r, "shared_secret_registration", "hmac")
		return refuse(http.StatusForbidden, spec.Unknown("HMAC incorrect"))
	}
	localpart := register.CanonicalLocalpart(req.Username)
	if !ValidLocalpart(localpart, s.name) {
		return refuse(http.StatusBadRequest, spec.InvalidUsername("The username is not a legal one"))
	}
	if err := checkPassword(req.Password); err != nil {
		return nil, err
	}
	if !s.shared.use(req.Nonce) {
		return refuse(http.StatusBadRequest, spec.Unknown("unrecognised nonce"))
	}
	return s.makeAccount(r.Context(), localpart, req.Password, req.Admin)
}

// makeAccount makes an account that no registration asked for, and logs it in.
func (s *Server) makeAccount(ctx context.Context, localpart, password string, admin bool) (any, error) {
	hash, err := s.passwords.Hash(ctx, password)
	if err != nil {
		return nil, err
	}
	var opened session
	err = s.inTx(ctx, func(ctx context.Context) error {
		_, err := s.accounts.CreateUser(ctx, User{Localpart: localpart, PasswordHash: hash, Admin: admin, Created: time.Now()})
		if errors.Is(err, ErrTaken) {
			return uia.NewError(http.StatusBadRequest, spec.UserInUse("That username is taken"))
		} else if err != nil {
			return err
		}
		opened, err = s.openDevice(ctx, Device{Localpart: localpart})
		return err
	})
	return opened, err
}
