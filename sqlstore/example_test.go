package sqlstore_test

import (
	"context"
	"database/sql"
	"log"
	"time"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/sqlstore"
)

func Example() {
	ctx := context.Background()
	db, err := sql.Open("pgx", "postgres:///homeserver") // import _ "github.com/jackc/pgx/v5/stdlib"
	if err != nil {
		log.Fatal(err)
	}
	store, err := sqlstore.New(db, sqlstore.PostgreSQL)
	if err != nil {
		log.Fatal(err)
	}
	if err := store.Migrate(ctx); err != nil {
		log.Fatal(err)
	}
	_, err = uia.New(uia.Config{
		Secrets:  store.Secrets(24 * time.Hour),
		Sessions: store,
		Stages:   []uia.Stage{&uia.TokenStage{Store: store}},
		Operations: []uia.Operation{{
			Name: "register", Flows: []uia.Flow{{uia.TokenType}}, Mutable: true, Tx: true,
		}},
	})
	if err != nil {
		log.Fatal(err)
	}
}

// The account is made in the transaction that spends the token's use.
func ExampleStore_InTx() {
	var store *sqlstore.Store
	register := func(ctx context.Context, grant *uia.Grant) ([]byte, error) {
		return grant.Finish(ctx, func(ctx context.Context, s *uia.Session) (uia.Effect, error) {
			tx, _ := store.Tx(ctx)
			_, err := tx.ExecContext(ctx, `INSERT INTO accounts (key, user_id) VALUES ($1, $2)`, s.Key, "@alice:example.org")
			return uia.Effect{UserID: "@alice:example.org"}, err
		})
	}
	_ = register
}
