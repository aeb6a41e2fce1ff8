package uia

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/matrix-uia/uia/internal/seal"
)

// Secrets returns the secrets that are good at the moment, each of at least 32 random
// bytes. New sessions are sealed with the first one. Each of the others still opens what
// was sealed with it, or is about to become the first one. Every process of a homeserver
// needs the same secrets.
//
// It is called for every request, by many at once: it answers from memory, and with the
// same slice for as long as nothing has changed. The caller must not change what it
// returns. Its error answers the request with a 500.
//
// An attacker who has a secret and a dump of the database still needs a session ID to
// open that session's record. Session IDs reach the logs of proxies, however, so secrets
// should rotate, daily for example. Three times matter:
//
//   - A new secret is known to every process before the first one seals with it:
//     otherwise a process answers 400 to a session that another one has just opened.
//   - A secret that no longer seals opens for SessionTTL longer, and for as long as
//     other things that were sealed with it have to be opened (EmailStage.TTL).
//   - Then it is destroyed.
//
// sqlstore's Store.Secrets does all of that. [FixedSecrets] never change.
type Secrets func(ctx context.Context, now time.Time) ([][]byte, error)

// FixedSecrets returns secrets that stay as they are for as long as the process runs. The
// old ones open sessions and seal none: a homeserver that keeps its secret in a file
// changes it in three steps. First it adds the new secret to the old ones of every
// process. Then it makes the new secret the first one in every process. After SessionTTL
// it removes the secret that was first before.
func FixedSecrets(secret []byte, old ...[]byte) Secrets {
	all := slices.Concat([][]byte{secret}, old)
	return func(context.Context, time.Time) ([][]byte, error) { return all, nil }
}

// keys returns the keys that are good at the moment. The first one seals.
func (e *Engine) keys(ctx context.Context, now time.Time) ([]*seal.Keys, error) {
	keys, err := e.ring.Keys(ctx, now)
	if err != nil {
		return nil, fmt.Errorf("uia: Secrets: %w", err)
	}
	return keys, nil
}
