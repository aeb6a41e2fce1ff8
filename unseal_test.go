package uia

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func testKeys(t testing.TB, secret string) *keys {
	k, err := newKeys([]byte(secret + strings.Repeat(".", minSecret)))
	require.NoError(t, err)
	return k
}

// FuzzUnseal: an ID opens if and only if it was sealed under a secret of the
// ring, character by character, and then it says what was sealed.
func FuzzUnseal(f *testing.F) {
	today, yesterday, stranger := testKeys(f, "today"), testKeys(f, "yesterday"), testKeys(f, "stranger")
	ring := []*keys{today, yesterday}
	f.Fuzz(func(t *testing.T, operation, subject, target, flows, digest, remembered, opening string, expires int64, at, cut uint16, insert string) {
		sealed := &ticket{
			expires: expires, operation: operation, subject: subject, target: target,
			flows: []byte(flows), digest: []byte(digest), remembered: []byte(remembered),
		}
		if opening != "" {
			sealed.openings = []string{"m.login.terms", opening}
		}
		for _, k := range ring {
			id, digest := k.seal(sealed)
			if len(id) > maxSessionID {
				_, _, _, err := unseal(ring, id)
				require.ErrorIs(t, err, errSealed)
				continue
			}
			opened, by, again, err := unseal(ring, id)
			require.NoError(t, err)
			require.Same(t, k, by)
			require.Equal(t, digest, again)
			require.Empty(t, cmp.Diff(sealed, opened, cmp.AllowUnexported(ticket{}), cmpopts.EquateEmpty()))

			// Any other string is refused: edited at one place, or not an ID at all.
			from := min(int(at), len(id))
			to := min(from+int(cut), len(id))
			for _, other := range []string{id[:from] + insert + id[to:], insert, id + insert, insert + id} {
				_, _, _, err := unseal(ring, other)
				require.Equal(t, other != id, err != nil, "%q", other)
			}
		}
		id, _ := stranger.seal(sealed)
		_, _, _, err := unseal(ring, id)
		require.ErrorIs(t, err, errSealed)
		// Only what was sealed by a server with the same secret is ever parsed, but
		// that may be another version of this package.
		if parsed, ok := parseTicket([]byte(insert)); ok {
			require.NotNil(t, parsed)
		}
	})
}

func fullTicket() *ticket {
	return &ticket{
		expires: time.UnixMilli(1_780_000_000_000).UnixMilli(), operation: "delete_device", subject: "@alice:example.org", target: "DEVICE",
		flows: []byte("0123456789abcdef"), digest: []byte("fedcba9876543210"), remembered: []byte(`{"username":"alice"}`),
		openings: []string{"m.login.terms", "1.0"},
	}
}

func TestUnsealRefusesEveryFlippedBit(t *testing.T) {
	k := testKeys(t, "secret")
	id, _ := k.seal(fullTicket())
	raw, err := base64.RawURLEncoding.DecodeString(id)
	require.NoError(t, err)
	for i := range len(raw) * 8 {
		flipped := bytes.Clone(raw)
		flipped[i/8] ^= 1 << (i % 8)
		_, _, _, err := unseal([]*keys{k}, base64.RawURLEncoding.EncodeToString(flipped))
		require.ErrorIs(t, err, errSealed, "bit %d of the sealed bytes", i)
	}
	for i := range len(id) * 8 {
		flipped := []byte(id)
		flipped[i/8] ^= 1 << (i % 8)
		_, _, _, err := unseal([]*keys{k}, string(flipped))
		require.ErrorIs(t, err, errSealed, "bit %d of the ID", i)
	}
}

// Every length that an ID can have modulo 3 leaves another number of bits over in
// the last character, which a lenient decoder does not look at.
func TestUnsealRefusesOtherWritingsOfAnID(t *testing.T) {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	k := testKeys(t, "secret")
	remainders := map[int]bool{}
	for n := range 3 {
		sealed := fullTicket()
		sealed.remembered = bytes.Repeat([]byte("x"), n*block)
		id, _ := k.seal(sealed)
		remainders[len(id)%4] = true
		others := map[string]string{
			"padded": id + "=", "padded twice": id + "==", "cut": id[:len(id)-1], "cut by a quantum": id[:len(id)-4], "doubled": id + id,
			"empty": "", "space": id + " ", "leading space": " " + id, "NUL": id + "\x00", "of the standard alphabet": strings.NewReplacer("-", "+", "_", "/").Replace(id),
		}
		if others["of the standard alphabet"] == id {
			delete(others, "of the standard alphabet")
		}
		for _, c := range alphabet {
			if last := id[:len(id)-1] + string(c); last != id {
				others["ends in "+string(c)] = last
			}
		}
		for i := range len(id) + 1 {
			for _, b := range []string{"\n", "\r", "\r\n", "="} {
				others[fmt.Sprintf("%q at %d", b, i)] = id[:i] + b + id[i:]
			}
			if i < len(id) {
				others[fmt.Sprintf("the first %d", i)] = id[:i]
				others[fmt.Sprintf("without the first %d", i+1)] = id[i+1:]
			}
		}
		for name, other := range others {
			_, _, _, err := unseal([]*keys{k}, other)
			assert.ErrorIs(t, err, errSealed, "%s: %q", name, other)
		}
		_, _, _, err := unseal([]*keys{k}, id)
		require.NoError(t, err)
	}
	assert.Greater(t, len(remainders), 1)
}

func TestUnsealWithSecretsOfOneKeyID(t *testing.T) {
	first := testKeys(t, "0")
	var second *keys
	for i := 1; second == nil; i++ {
		if k := testKeys(t, fmt.Sprint(i)); k.id == first.id {
			second = k
		}
	}
	for _, ring := range [][]*keys{{first, second}, {second, first}} {
		for _, k := range ring {
			id, _ := k.seal(fullTicket())
			_, by, _, err := unseal(ring, id)
			require.NoError(t, err)
			assert.Same(t, k, by)
		}
	}
}

func TestUnsealIsBounded(t *testing.T) {
	k := testKeys(t, "secret")
	large := fullTicket()
	large.flows = bytes.Repeat([]byte("x"), maxSessionID)
	id, _ := k.seal(large)
	_, _, _, err := unseal([]*keys{k}, id)
	assert.ErrorIs(t, err, errSealed)
	huge := strings.Repeat("A", 1<<20)
	assert.Zero(t, testing.AllocsPerRun(10, func() { _, _, _, _ = unseal([]*keys{k}, huge) }), "what is too long is not even decoded")
}

func TestSessionKeyTellsNothing(t *testing.T) {
	k := testKeys(t, "secret")
	seen := map[[sha256.Size]byte]bool{}
	for range 1000 {
		id, digest := k.seal(fullTicket())
		assert.False(t, seen[digest], "two sessions have one key")
		seen[digest] = true
		assert.NotContains(t, id, sessionKey("", digest)[1:])
	}
}
