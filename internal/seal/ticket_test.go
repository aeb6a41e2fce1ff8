package seal

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

func testKeys(t testing.TB, secret string) *Keys {
	k, err := New([]byte(secret + strings.Repeat(".", 32)))
	require.NoError(t, err)
	return k
}

// FuzzOpenTicket: an ID opens if and only if it was sealed under a secret of the
// ring, character by character, and then it says what was sealed.
func FuzzOpenTicket(f *testing.F) {
	today, yesterday, stranger := testKeys(f, "today"), testKeys(f, "yesterday"), testKeys(f, "stranger")
	ring := []*Keys{today, yesterday}
	f.Fuzz(func(t *testing.T, operation, subject, target, flows, digest, remembered, opening string, expires int64, at, cut uint16, insert string) {
		sealed := &Ticket{
			Expires: expires, Operation: operation, Subject: subject, Target: target,
			Flows: []byte(flows), Digest: []byte(digest), Remembered: []byte(remembered),
		}
		if opening != "" {
			sealed.Openings = []string{"m.login.terms", opening}
		}
		for _, k := range ring {
			id, digest := k.SealTicket(sealed)
			if len(id) > MaxID {
				_, _, _, err := OpenTicket(ring, id)
				require.ErrorIs(t, err, ErrForeign)
				continue
			}
			opened, by, again, err := OpenTicket(ring, id)
			require.NoError(t, err)
			require.Same(t, k, by)
			require.Equal(t, digest, again)
			require.Empty(t, cmp.Diff(sealed, opened, cmp.AllowUnexported(Ticket{}), cmpopts.EquateEmpty()))

			// Any other string is refused: edited at one place, or not an ID at all.
			from := min(int(at), len(id))
			to := min(from+int(cut), len(id))
			for _, other := range []string{id[:from] + insert + id[to:], insert, id + insert, insert + id} {
				_, _, _, err := OpenTicket(ring, other)
				require.Equal(t, other != id, err != nil, "%q", other)
			}
		}
		id, _ := stranger.SealTicket(sealed)
		_, _, _, err := OpenTicket(ring, id)
		require.ErrorIs(t, err, ErrForeign)
		// Only what was sealed by a server with the same secret is ever parsed, but
		// that may be another version of this package.
		if parsed, ok := parseTicket([]byte(insert)); ok {
			require.NotNil(t, parsed)
		}
	})
}

func fullTicket() *Ticket {
	return &Ticket{
		Expires: time.UnixMilli(1_780_000_000_000).UnixMilli(), Operation: "delete_device", Subject: "@alice:example.org", Target: "DEVICE",
		Flows: []byte("0123456789abcdef"), Digest: []byte("fedcba9876543210"), Remembered: []byte(`{"username":"alice"}`),
		Openings: []string{"m.login.terms", "1.0"},
	}
}

func TestOpenTicketRefusesEveryFlippedBit(t *testing.T) {
	k := testKeys(t, "secret")
	id, _ := k.SealTicket(fullTicket())
	raw, err := base64.RawURLEncoding.DecodeString(id)
	require.NoError(t, err)
	for i := range len(raw) * 8 {
		flipped := bytes.Clone(raw)
		flipped[i/8] ^= 1 << (i % 8)
		_, _, _, err := OpenTicket([]*Keys{k}, base64.RawURLEncoding.EncodeToString(flipped))
		require.ErrorIs(t, err, ErrForeign, "bit %d of the sealed bytes", i)
	}
	for i := range len(id) * 8 {
		flipped := []byte(id)
		flipped[i/8] ^= 1 << (i % 8)
		_, _, _, err := OpenTicket([]*Keys{k}, string(flipped))
		require.ErrorIs(t, err, ErrForeign, "bit %d of the ID", i)
	}
}

// Every length that an ID can have modulo 3 leaves another number of bits over in
// the last character, which a lenient decoder does not look at.
func TestOpenTicketRefusesOtherWritingsOfAnID(t *testing.T) {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	k := testKeys(t, "secret")
	remainders := map[int]bool{}
	for n := range 3 {
		sealed := fullTicket()
		sealed.Remembered = bytes.Repeat([]byte("x"), n*block)
		id, _ := k.SealTicket(sealed)
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
			_, _, _, err := OpenTicket([]*Keys{k}, other)
			assert.ErrorIs(t, err, ErrForeign, "%s: %q", name, other)
		}
		_, _, _, err := OpenTicket([]*Keys{k}, id)
		require.NoError(t, err)
	}
	assert.Greater(t, len(remainders), 1)
}

func TestOpenTicketWithSecretsOfOneKeyID(t *testing.T) {
	first := testKeys(t, "0")
	var second *Keys
	for i := 1; second == nil; i++ {
		if k := testKeys(t, fmt.Sprint(i)); k.id == first.id {
			second = k
		}
	}
	for _, ring := range [][]*Keys{{first, second}, {second, first}} {
		for _, k := range ring {
			id, _ := k.SealTicket(fullTicket())
			_, by, _, err := OpenTicket(ring, id)
			require.NoError(t, err)
			assert.Same(t, k, by)
		}
	}
}

func TestOpenTicketIsBounded(t *testing.T) {
	k := testKeys(t, "secret")
	large := fullTicket()
	large.Flows = bytes.Repeat([]byte("x"), MaxID)
	id, _ := k.SealTicket(large)
	_, _, _, err := OpenTicket([]*Keys{k}, id)
	assert.ErrorIs(t, err, ErrForeign)
	huge := strings.Repeat("A", 1<<20)
	assert.Zero(t, testing.AllocsPerRun(10, func() { _, _, _, _ = OpenTicket([]*Keys{k}, huge) }), "what is too long is not even decoded")
}

func TestDigestTellsNothing(t *testing.T) {
	k := testKeys(t, "secret")
	seen := map[[sha256.Size]byte]bool{}
	for range 1000 {
		id, digest := k.SealTicket(fullTicket())
		assert.False(t, seen[digest], "two sessions have one digest")
		seen[digest] = true
		assert.NotContains(t, id, base64.RawURLEncoding.EncodeToString(digest[:]))
	}
}
