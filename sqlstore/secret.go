package sqlstore

import (
	"context"
	"crypto/rand"
	"errors"
)

// secretLength is the length of a secret that this package makes, in bytes.
const secretLength = 32

// Secret returns the secret that every process on this database shares, for
// uia.Config's Secret. The first call on a database makes it.
//
// Whoever can read the database can read it. That does not open a session: its
// record is sealed under a key that needs the session ID too, which is not
// stored.
func (s *Store) Secret(ctx context.Context) ([]byte, error) {
	var secret []byte
	err := s.write(ctx, func(c conn) error {
		find := func() (bool, error) {
			return c.one(ctx, `SELECT value FROM uia_secrets WHERE name = 'secret'`, nil, &secret)
		}
		if found, err := find(); found || err != nil {
			return err
		}
		// Of several processes one inserts; all of them read what that one wrote.
		fresh := make([]byte, secretLength)
		rand.Read(fresh)
		if _, err := c.exec(ctx, `INSERT INTO uia_secrets (name, value) VALUES ('secret', $1)
			ON CONFLICT (name) DO NOTHING`, fresh); err != nil {
			return err
		}
		found, err := find()
		if err == nil && !found {
			err = errors.New("sqlstore: the secret was removed meanwhile")
		}
		return err
	})
	if err == nil && len(secret) < secretLength {
		return nil, errors.New("sqlstore: the stored secret is too short")
	}
	return secret, err
}
