package admin

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"strings"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/internal/api"
)

const (
	// legible has no two characters that look or sound alike in print or by hand: 22 of
	// them, so that 16 have 71 bits.
	legible   = "acdefghjkmnpqrtwxy3479"
	groupSize = 4
	// maxLegible with the hyphens between the groups has MaxTokenLength.
	maxLegible = 52

	wordBits = 60
	minWords = 1024
)

// styleOf returns what draws values of a style. length may be nil.
func (h *handler) styleOf(name string, length *int64) (func() string, error) {
	n := int64(defaultLength)
	if length != nil {
		n = *length
	}
	switch name {
	case "", "random":
		return func() string { return uia.GenerateToken(int(n)) }, nil
	case "readable":
		if n > maxLegible {
			return nil, api.Invalid(fmt.Sprintf("length must be at most %d with the style readable, which adds hyphens", maxLegible))
		}
		return func() string { return readable(int(n)) }, nil
	case "words":
		if h.words == nil {
			return nil, api.Invalid("The style words is not available here")
		}
		return h.words.draw, nil
	}
	return nil, api.Invalid("style must be random, readable or words")
}

// readable draws n characters in groups: "k3fx-whe7-pqrt-aacd".
func readable(n int) string {
	var b strings.Builder
	for i := range n {
		if i > 0 && i%groupSize == 0 {
			b.WriteByte('-')
		}
		b.WriteByte(legible[below(len(legible))])
	}
	return b.String()
}

// below draws a number from 0 to n-1, each as likely as the others.
func below(n int) int {
	mask := uint64(1)<<bits.Len(uint(n-1)) - 1
	for {
		var b [8]byte
		_, _ = rand.Read(b[:]) // never fails
		if v := binary.LittleEndian.Uint64(b[:]) & mask; v < uint64(n) {
			return int(v)
		}
	}
}

// words is a list of words and how many of them a token takes.
type words struct {
	list  []string
	count int
}

// newWords returns nil for an empty list. It leaves out what does not fit a token,
// and words with a hyphen, which stands between two: "drop-down" could be either one
// or two of them.
func newWords(list []string) (*words, error) {
	if len(list) == 0 {
		return nil, nil
	}
	list = slices.DeleteFunc(slices.Clone(list), func(w string) bool {
		return !uia.ValidTokenValue(w) || strings.Contains(w, "-")
	})
	slices.Sort(list)
	w := &words{list: slices.Compact(list)}
	if len(w.list) < minWords {
		return nil, fmt.Errorf("admin: only %d of the Words can be used, and %d are needed", len(w.list), minWords)
	}
	w.count = int(math.Ceil(wordBits / math.Log2(float64(len(w.list)))))
	longest := slices.MaxFunc(w.list, func(a, b string) int { return len(a) - len(b) })
	if w.count*(len(longest)+1)-1 > uia.MaxTokenLength {
		return nil, errors.New("admin: the Words are too long: a token could not hold enough of them")
	}
	return w, nil
}

// draw draws a value: "correct-horse-battery-staple-again".
func (w *words) draw() string {
	drawn := make([]string, w.count)
	for i := range drawn {
		drawn[i] = w.list[below(len(w.list))]
	}
	return strings.Join(drawn, "-")
}
