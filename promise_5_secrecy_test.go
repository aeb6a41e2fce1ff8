package uia_test

import (
	"bytes"
	"context"
	"crypto/hkdf"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/matrix-org/gomatrixserverlib/spec"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/chacha20poly1305"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/internal/seal"
	"github.com/matrix-uia/uia/memstore"
)

// transcript is everything that a store was ever given: what a database, its
// journals and its backups hold.
type transcript struct {
	mu      sync.Mutex
	text    bytes.Buffer
	records []uia.Record
}

func (s *transcript) store() uia.Store {
	return &tap{memstore.New(nil), func(_ context.Context, c call, do func() error) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, arg := range c.args {
			if r, ok := arg.(uia.Record); ok {
				r.Revision++ // as it will be stored
				s.records = append(s.records, r)
				s.text.Write(r.Data)
			}
			encoded, err := json.Marshal(arg)
			must(err)
			fmt.Fprintf(&s.text, "\n%s %+v %s\n", c.name, arg, encoded)
		}
		return do()
	}}
}

// forms returns the ways in which a secret might be stored; digests too, unless it
// is too random to be guessed from one.
func forms(secret string, digests bool) (out []string) {
	plain := [][]byte{[]byte(secret)}
	if raw, err := base64.RawURLEncoding.DecodeString(secret); err == nil && !digests {
		plain = append(plain, raw)
	}
	if digests {
		a, b, c, d := sha256.Sum256(plain[0]), sha512.Sum512(plain[0]), sha1.Sum(plain[0]), md5.Sum(plain[0])
		plain = append(plain, a[:], b[:], c[:], d[:])
	}
	for _, p := range plain {
		out = append(out, string(p), hex.EncodeToString(p), strings.ToUpper(hex.EncodeToString(p)), fmt.Sprint(p))
		for shift := range 3 { // wherever it begins in what is encoded
			for _, e := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
				encoded := e.EncodeToString(append(make([]byte, shift), p...))
				out = append(out, encoded[4:len(encoded)-4])
			}
		}
	}
	return out
}

// secretive plays a registration with a wrong token, a refusal, a success and its
// replay, and returns what must not be found afterwards.
func secretive(t *testing.T, h *homeserver) (session, password, accessToken string) {
	password = "correct horse battery staple"
	params := dict{"username": "alice", "password": password, "device_id": "PHONE"}
	session = h.post(params).session()
	require.Equal(t, 401, h.post(with(params, dict{"type": uia.TokenType, "session": session, "token": "wrong"})).Status)
	a := h.post(with(params, dict{"type": uia.TokenType, "session": session, "token": "abc"}))
	require.Equal(t, []string{uia.TokenType}, a.completed())
	create := h.operate
	h.operate = func(context.Context, *uia.Session) (uia.Effect, error) {
		return uia.Effect{}, uia.NewError(400, spec.InvalidUsername("no"))
	}
	final := with(params, dict{"type": "m.login.dummy", "session": session})
	require.Equal(t, 400, h.post(final).Status)
	h.operate = create
	a = h.post(final)
	require.Equal(t, 200, a.Status, a.Body)
	require.Equal(t, a.Body, h.post(final).Body)
	accessToken, _ = a.JSON["access_token"].(string)
	require.NotEmpty(t, accessToken)
	return session, password, accessToken
}

func TestStoreHoldsNothingThatCanBeReplayed(t *testing.T) {
	var s transcript
	h := newHomeserver(t, setup{store: s.store()})
	h.token("abc", 1)
	session, password, accessToken := secretive(t, h)
	stored := s.text.String()
	require.Contains(t, stored, "@alice:test", "the transcript works")
	for name, needles := range map[string][]string{
		"password": forms(password, true), "access token": forms(accessToken, true), "session ID": forms(session, false),
	} {
		for _, needle := range needles {
			assert.NotContains(t, stored, needle, name)
		}
	}
}

// binding is what a record's data is bound to.
func binding(r uia.Record) []byte {
	out := binary.AppendUvarint(nil, uint64(len(r.Key)))
	out = binary.AppendVarint(append(out, r.Key...), r.Revision)
	return binary.AppendVarint(binary.AppendVarint(out, int64(r.State)), r.Run)
}

// openRecord opens a record as whoever has the secret and this session ID would.
func openRecord(t testing.TB, secret []byte, id string, r uia.Record) ([]byte, error) {
	k, err := seal.New(secret)
	require.NoError(t, err)
	return k.Open(id, bytes.Clone(r.Data), binding(r))
}

// opensWith reports whether a key opens the record, under what binds it to its
// place or under nothing.
func opensWith(t testing.TB, key []byte, r uia.Record) bool {
	aead, err := chacha20poly1305.NewX(key)
	require.NoError(t, err)
	nonce, sealed := r.Data[:aead.NonceSize()], r.Data[aead.NonceSize():]
	return slices.ContainsFunc([][]byte{nil, []byte(r.Key), binding(r)}, func(b []byte) bool {
		_, err := aead.Open(nil, nonce, sealed, b)
		return err == nil
	})
}

// recordKey derives what seals the record of a session.
func recordKey(t testing.TB, secret []byte, id string) []byte {
	record, err := hkdf.Key(sha256.New, secret, nil, "uia/1 record", 32)
	require.NoError(t, err)
	key, err := hkdf.Key(sha256.New, record, []byte(id), "uia/1 record data", 32)
	require.NoError(t, err)
	return key
}

// Whoever has the secret and the database, but no session ID, tries the keys that
// can be made of the two.
func TestSecretAloneOpensNoRecord(t *testing.T) {
	var s transcript
	h := newHomeserver(t, setup{store: s.store()})
	h.token("abc", 1)
	other := h.post(dict{}).session()
	session, password, accessToken := secretive(t, h)
	require.GreaterOrEqual(t, len(s.records), 4)
	var opened bytes.Buffer
	for _, r := range s.records {
		plain, err := openRecord(t, secret, session, r)
		require.NoError(t, err, "with the session ID it opens")
		require.True(t, opensWith(t, recordKey(t, secret, session), r), "and the test knows how")
		opened.Write(plain)
		for _, id := range []string{"", r.Key, strings.TrimPrefix(r.Key, "register."), r.Owner, string(r.Data), other, session[:len(session)-1], session + "A"} {
			_, err := openRecord(t, secret, id, r)
			assert.Error(t, err)
		}
		_, err = openRecord(t, []byte("another secret, of 32 bytes or more......"), session, r)
		assert.Error(t, err, "nor does the session ID alone")

		inputs := [][]byte{secret, nil, []byte(r.Key), []byte(r.Owner)}
		if digest, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(r.Key, "register.")); assert.NoError(t, err) {
			inputs = append(inputs, digest)
		}
		keys := [][]byte{secret[:32], make([]byte, 32)}
		for _, purpose := range []string{"", "session", "record", "request", "key id", "record data"} {
			for _, in := range inputs {
				for _, salt := range inputs {
					key, err := hkdf.Key(sha256.New, in, salt, "uia/1 "+purpose, 32)
					require.NoError(t, err)
					again, err := hkdf.Key(sha256.New, key, salt, "uia/1 record data", 32)
					require.NoError(t, err)
					keys = append(keys, key, again)
				}
			}
		}
		for _, key := range keys {
			assert.False(t, opensWith(t, key, r))
		}
	}
	assert.Contains(t, opened.String(), password, "there was something to hide")
	assert.Contains(t, opened.String(), accessToken)
}

// Nor does a record open in the place of another revision or state of itself.
func TestRecordIsBoundToItsPlace(t *testing.T) {
	var s transcript
	h := newHomeserver(t, setup{store: s.store()})
	h.token("abc", 1)
	session, _, _ := secretive(t, h)
	for name, move := range map[string]func(*uia.Record){
		"key":      func(r *uia.Record) { r.Key += "A" },
		"revision": func(r *uia.Record) { r.Revision++ },
		"run":      func(r *uia.Record) { r.Run += 2 },
		"state":    func(r *uia.Record) { r.State = r.State%3 + 1 },
		"data":     func(r *uia.Record) { r.Data = bytes.Clone(r.Data); r.Data[len(r.Data)/2] ^= 1 },
		"nonce":    func(r *uia.Record) { r.Data = bytes.Clone(r.Data); r.Data[0] ^= 1 },
		"length":   func(r *uia.Record) { r.Data = r.Data[:10] },
	} {
		for _, r := range s.records {
			_, err := openRecord(t, secret, session, r)
			require.NoError(t, err)
			move(&r)
			_, err = openRecord(t, secret, session, r)
			assert.Error(t, err, name)
		}
	}
}

// Whatever an operation and a database do is logged without what it is about. The
// other tests that use a world look for it too.
func TestLogHoldsNoSecret(t *testing.T) {
	for _, f := range doubtful {
		t.Run(f.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, flowTD, false)
				w.token("a-secret-token", 1)
				down := false
				h := w.process(func(_ call, do func() error) error {
					if down {
						return errDown
					}
					return do()
				})
				operate := f.operate(t, h)
				h.operate = func(ctx context.Context, s *uia.Session) (uia.Effect, error) {
					r, err := operate(ctx, s)
					down = true // so that nothing can be cleaned up
					return r, err
				}
				c := &client{world: w, name: "alice", token: "a-secret-token", fickle: true, ask: h.postCtx}
				require.Equal(t, 500, c.register().Status)
				assert.NotZero(t, w.logged)
				assert.NotEmpty(t, w.sessions)
			})
		})
	}
}
