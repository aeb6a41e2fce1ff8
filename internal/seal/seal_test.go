package seal

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestOpenNeedsIDBindingAndSecret(t *testing.T) {
	k := testKeys(t, "secret")
	sealed := k.Seal("id", []byte("a response"), []byte("revision 3"))
	plain, err := k.Open("id", sealed, []byte("revision 3"))
	require.NoError(t, err)
	assert.Equal(t, "a response", string(plain))

	for name, open := range map[string]func() ([]byte, error){
		"another ID":      func() ([]byte, error) { return k.Open("ie", sealed, []byte("revision 3")) },
		"no ID":           func() ([]byte, error) { return k.Open("", sealed, []byte("revision 3")) },
		"another binding": func() ([]byte, error) { return k.Open("id", sealed, []byte("revision 2")) },
		"no binding":      func() ([]byte, error) { return k.Open("id", sealed, nil) },
		"another secret":  func() ([]byte, error) { return testKeys(t, "other").Open("id", sealed, []byte("revision 3")) },
	} {
		_, err := open()
		assert.Error(t, err, name)
	}
	for i := range len(sealed) * 8 {
		flipped := bytes.Clone(sealed)
		flipped[i/8] ^= 1 << (i % 8)
		_, err := k.Open("id", flipped, []byte("revision 3"))
		require.Error(t, err, "bit %d", i)
	}
	for n := range len(sealed) {
		_, err := k.Open("id", sealed[:n], []byte("revision 3"))
		require.Error(t, err, "the first %d bytes", n)
	}
}

func TestSealHidesLengthAndRepetition(t *testing.T) {
	k := testKeys(t, "secret")
	short, long := k.Seal("id", []byte("1"), nil), k.Seal("id", bytes.Repeat([]byte("1"), block-1), nil)
	assert.Len(t, long, len(short))
	assert.NotEqual(t, k.Seal("id", []byte("1"), nil), short)
}

func TestMACSeparatesKeyFromMessage(t *testing.T) {
	k := testKeys(t, "secret")
	assert.Equal(t, k.MAC("a", []byte("bc")), k.MAC("a", []byte("bc")))
	assert.NotEqual(t, k.MAC("a", []byte("bc")), k.MAC("ab", []byte("c")))
	assert.NotEqual(t, k.MAC("a", []byte("bc")), testKeys(t, "other").MAC("a", []byte("bc")))
}
