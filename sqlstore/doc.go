// Package sqlstore is a [uia.Store] on the database that a homeserver already
// has: SQLite for one process or a few on one machine, PostgreSQL for many. It is
// built on database/sql and imports no driver.
//
//	db, err := sql.Open("pgx", "postgres:///homeserver")
//	...
//	store, err := sqlstore.New(db, sqlstore.PostgreSQL)
//	...
//	err = store.Migrate(ctx) // makes the tables; all names begin with uia_
//	...
//	engine, err := uia.New(uia.Config{Secrets: store.Secrets(24 * time.Hour), Sessions: store, ...})
//
// # One transaction
//
// Where the homeserver's accounts live in the same database, make the account in
// the transaction that spends the token's use. Then a crash leaves no doubt:
// either there is an account and its use is spent, or there is neither.
//
//	uia.Operation{Name: "register", Tx: true, ...}
//	...
//	grant.Finish(ctx, func(ctx context.Context, s *uia.Session) (uia.Effect, error) {
//		tx, _ := store.Tx(ctx)
//		_, err := tx.ExecContext(ctx, "INSERT INTO accounts ...")
//		...
//	})
//
// The transaction is carried by the context: every method of the Store that is
// called with it joins. A host that has a transaction already brings it with
// [Store.WithTx].
//
// # SQLite
//
// The busy timeout belongs to a connection, so it must be in the DSN; [New]
// refuses zero, which is the default of one of the drivers. Use write-ahead
// logging:
//
//	modernc.org/sqlite           file:homeserver.db?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)
//	github.com/mattn/go-sqlite3  file:homeserver.db?_busy_timeout=10000&_journal_mode=WAL&_synchronous=FULL
//
// With synchronous=NORMAL a power cut can undo the last moments, accounts and
// uses together if they are in one file; a killed process cannot. The rollback
// journal works too, and is slower. With journal_mode OFF or MEMORY a killed
// process can leave a broken file: New refuses them. A database in memory needs
// db.SetMaxOpenConns(1) and connections that are never closed.
//
// SQLite has one writer at a time. Those of a Store queue in their order, so that
// none of them starves. A transaction that the host began itself does not queue, and
// must write before it reads or be begun with _txlock=immediate; a host that has a
// queue of its own for its writes shares it with [Queue], and then need not.
//
// # PostgreSQL
//
// Everything works at every isolation level, through a proxy that pools
// transactions, and with a pool of one connection: there are no advisory locks,
// no LISTEN, no session state, and no prepared statements unless asked for. Behind
// PgBouncer pgx needs default_query_exec_mode=exec in its DSN. github.com/lib/pq
// needs binary_parameters=yes; without PgBouncer that saves it a round trip for each
// statement, and [PrepareStatements] saves the server the planning.
//
// Set db.SetMaxIdleConns to the size of the pool. database/sql keeps two idle
// connections unless told otherwise, and most calls of a Store take a connection
// for one statement: with more clients than that they would be opened anew all the
// time.
//
// What has been committed must stay so: with synchronous_commit=off a crash, and
// with asynchronous replication a fail-over, can undo the last moments. With a
// synchronous standby and target_session_attrs=read-write in the DSN a fail-over
// undoes nothing.
//
// # Cost
//
// Round trips on PostgreSQL, which a test counts on the wire:
//
//	opening a session                           0
//	a token's validity                          1
//	a wrong token                               1, and 1 for the record if it names a session; no write
//	a registration with one token, Tx set       6, and those of the host's own statements
//
// The six are: record; token; hold, record and pin; BEGIN; spent use and record;
// COMMIT. On SQLite the hold, the record and the pin are one transaction. On either
// a registration commits twice.
//
// A benchmark (Throughput in internal/dbtest) compares its storage work with the
// same work written by hand as two plain transactions: hold and session; session,
// account, counters and session. On two cores, shared with the client, it ran at
// 0.78 to 0.88 of the plain one's throughput on SQLite, and on PostgreSQL at 0.89 or
// more with one client and at 0.77 to 0.85 with sixteen, through pgx and through
// lib/pq with prepared statements. Without those lib/pq is at 0.5 to 0.7.
//
// With a million tokens and one token of a million spent uses, and ANALYZE never
// run, a registration with that token and a look at it take as long as on an empty
// database (TestScale), and so does a look at one with 300,000 holds that have lapsed
// (TestLapsedHolds); any page of the administration's lists takes less than 20 ms
// (AdminPages, a benchmark), and so does any page of a member's invitations or of the tree
// of who invited whom (InvitePages).
// PostgreSQL's autovacuum should be on, and no transaction be left open for long: the
// index of uses holds the former states of each use until they are cleaned up, and a
// look at a token can pass them by only when nobody sees them any more.
//
// # Safety
//
// The use of a token is taken by writing the token's row first, with a condition that
// fails when none is left: every other call that wants a use waits for that row, and the
// condition is evaluated again on what the one before has left. The column taken counts
// the token's rows in uia_uses, and the uses of it that were spent elsewhere before it
// was created here, and held those that are held; every statement that adds or deletes
// one, or pins a held one, does both in one transaction. The reason for which each
// statement is safe stands beside it.
package sqlstore
