// Command registration is the least homeserver that registers accounts with tokens: the
// README's first sample, and the accounts that it leaves out.
package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"flag"
	"log"
	"net/http"
	"os"
	"time"

	_ "modernc.org/sqlite"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/admin"
	"github.com/matrix-uia/uia/register"
	"github.com/matrix-uia/uia/sqlstore"
)

func homeserver(ctx context.Context, file, adminToken string) http.Handler {
	db := must(sql.Open("sqlite", "file:"+file+"?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)"))
	store := must(sqlstore.New(db, sqlstore.SQLite))
	must(0, store.Migrate(ctx))
	registration := &register.Registration{
		Accounts: must(newAccounts(ctx, store, db)), ServerName: "example.org", Tx: true,
		HashPassword: hash, Flows: []uia.Flow{{uia.TokenType, uia.DummyType}},
	}
	engine := must(uia.New(uia.Config{
		Secrets: store.Secrets(24 * time.Hour), Sessions: store,
		Stages:     []uia.Stage{&uia.TokenStage{Store: store}, uia.DummyStage{}},
		Operations: []uia.Operation{registration.Operation()},
	}))
	go engine.Maintain(ctx)
	tokens := must(admin.Handler(store, administrator(adminToken), nil))
	mux := http.NewServeMux()
	mux.Handle("/_matrix/client/v3/register", must(registration.Handler(engine)))
	mux.Handle("/_matrix/client/v3/register/available", must(registration.AvailableHandler(engine)))
	mux.Handle(uia.ValidityPath, must(uia.ValidityHandler(engine, store, nil)))
	mux.Handle(admin.Path, tokens)
	mux.Handle(admin.Path+"/", tokens)
	return mux
}

func main() {
	addr := flag.String("addr", "127.0.0.1:8008", "where to listen")
	file := flag.String("db", "homeserver.db", "the database's file")
	flag.Parse()
	adminToken := os.Getenv("ADMIN_TOKEN")
	if adminToken == "" {
		adminToken = rand.Text()
		log.Println("the administrator's access token:", adminToken)
	}
	log.Fatal(http.ListenAndServe(*addr, homeserver(context.Background(), *file, adminToken)))
}

func must[T any](v T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return v
}
