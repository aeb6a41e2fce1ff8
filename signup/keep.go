package signup

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"time"
)

// kept is what was typed, as the form carries it from one press to the next.
type kept struct {
	Username string `json:"u"`
	Password string `json:"p"`
	Token    string `json:"t"`
	Until    int64  `json:"e"` // in milliseconds since 1970
	// What the token says: the name or the pattern that it is pinned to, and who invites.
	Pinned  string `json:"n,omitempty"`
	Pattern string `json:"o,omitempty"`
	Inviter string `json:"i,omitempty"`
}

// keepFor is how long a page can be left open without anything being lost: longer than a
// session of the engine can be.
const keepFor = 24 * time.Hour

// keepBlock is what the length is padded to, so that it does not tell that of the
// password.
const keepBlock = 256

// seal seals what was typed.
func (h *Handler) seal(ctx context.Context, k kept, now time.Time) (string, error) {
	k.Until = now.Add(keepFor).UnixMilli()
	plain, err := json.Marshal(k)
	if err != nil {
		return "", err
	}
	padded := binary.AppendUvarint(nil, uint64(len(plain)))
	padded = append(padded, plain...)
	padded = append(padded, make([]byte, keepBlock-len(padded)%keepBlock)...)
	sealed, err := h.box.Seal(ctx, now, padded, nil)
	return base64.RawURLEncoding.EncodeToString(sealed), err
}

// unseal returns what was typed; the zero kept if the text is none of ours, or too old.
func (h *Handler) unseal(ctx context.Context, text string, now time.Time) (k kept, err error) {
	sealed, decodeErr := base64.RawURLEncoding.DecodeString(text)
	if text == "" || decodeErr != nil {
		return kept{}, nil
	}
	padded, ok, err := h.box.Open(ctx, now, sealed, nil)
	if err != nil || !ok {
		return kept{}, err
	}
	n, skip := binary.Uvarint(padded)
	if skip <= 0 || n > uint64(len(padded)-skip) || json.Unmarshal(padded[skip:skip+int(n)], &k) != nil || now.UnixMilli() >= k.Until {
		return kept{}, nil
	}
	return k, nil
}
