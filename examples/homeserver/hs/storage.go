package hs

import (
	"context"
	"crypto/rand"
	"fmt"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/memstore"
)

// Storage is where a homeserver keeps everything.
type Storage struct {
	Tokens   uia.Store // registration tokens and the sessions of authentication
	Accounts Accounts
	// Secret seals the sessions. Every process on the same storage has the same.
	Secret []byte
	// Close gives back what Open took. Nil if there is nothing.
	Close func() error
}

// Open returns the storage that name stands for. The only one so far is
// "memory".
func Open(ctx context.Context, name string) (*Storage, error) {
	if name != "memory" {
		return nil, fmt.Errorf("storage %q is not supported: the only one is \"memory\"", name)
	}
	secret := make([]byte, 32)
	rand.Read(secret)
	return &Storage{Tokens: memstore.New(nil), Accounts: newMemoryAccounts(), Secret: secret}, nil
}
