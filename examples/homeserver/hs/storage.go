package hs

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/memstore"
)

// Storage is where a homeserver keeps everything.
type Storage struct {
	// Name says where that is, without a password.
	Name     string
	Tokens   uia.Store // registration tokens and the sessions of authentication
	Accounts Accounts
	// Secrets seal the sessions. Every process on the same storage has the same.
	Secrets uia.Secrets
	// InTx runs fn in a transaction, which the context carries and which both Tokens
	// and Accounts join. It may run fn more than once. Nil if they share none: then
	// Accounts is a [Burier].
	InTx func(ctx context.Context, fn func(context.Context) error) error
	// Close gives back what Open took. Nil if there is nothing.
	Close func() error
}

// Open returns the storage that name stands for: "memory", a PostgreSQL database
// ("postgres://..."), or else the file of a SQLite database, which is made if
// there is none.
func Open(ctx context.Context, name string) (*Storage, error) {
	scheme, rest, isURL := strings.Cut(name, "://")
	scheme = strings.ToLower(scheme)
	switch {
	case name == "memory":
		return openMemory(), nil
	case isURL && (scheme == "postgres" || scheme == "postgresql"):
		return openPostgreSQL(ctx, scheme+"://"+rest)
	case isURL:
		return nil, fmt.Errorf("hs: a database of the kind %q is not supported", scheme)
	case name == "", strings.Contains(name, ":memory:"):
		return nil, fmt.Errorf("hs: %q does not name a file; to keep nothing, use \"memory\"", name)
	}
	return openSQLite(ctx, name)
}

// openMemory returns a storage that is gone with the process.
func openMemory() *Storage {
	secret := make([]byte, 32)
	rand.Read(secret)
	return &Storage{Name: "memory", Tokens: memstore.New(nil), Accounts: newMemoryAccounts(), Secrets: uia.FixedSecrets(secret)}
}
