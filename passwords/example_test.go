package passwords_test

import (
	"context"
	"fmt"

	"github.com/matrix-uia/uia/passwords"
)

// A login verifies the hash of the user whom it finds, and an empty one if it finds none:
// so the time does not tell which users exist.
func Example_login() {
	ctx, hasher := context.Background(), passwords.New(nil)
	hash, err := hasher.Hash(ctx, "wonderland") // register.Registration.HashPassword
	if err != nil {
		panic(err)
	}
	hashes := map[string]string{"alice": hash}
	for _, user := range []string{"alice", "bob"} {
		right, err := hasher.Verify(ctx, hashes[user], "wonderland")
		fmt.Println(user, right, err)
	}
	// Output:
	// alice true <nil>
	// bob false <nil>
}
