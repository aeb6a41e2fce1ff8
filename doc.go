// Package uia is User-Interactive Authentication for Matrix homeservers, and
// registration with tokens (MSC3231, m.login.registration_token) on top of it.
//
// A homeserver lists its guarded endpoints as [Operation] values and the ways to prove
// something as [Stage] values, makes one [Engine] of them with [New], and guards an
// endpoint with [Engine.Serve], or with [Engine.Authenticate] and [Grant.Finish] where it
// needs the two steps separately. Package register is POST /register on top of that.
// [ValidityHandler] is the endpoint that says whether a token is valid. Tokens and
// sessions are kept in a [Store]: package memstore keeps them in memory, package sqlstore
// in SQLite or PostgreSQL.
//
// # User-Interactive Authentication
//
// A client asks for something that needs authentication, and gets a 401 with the
// flows it can choose from, each a list of stages, and the ID of a session. It
// repeats the request with an auth member that completes one stage after another,
// until the operation runs and answers. The protocol is described in the
// Client-Server API, "User-Interactive Authentication API".
//
// Here a session ID is the session itself, sealed: the first leg writes nothing. A record
// is kept from the first completed stage on. The request that completes the last one
// takes a lease of the session, so that the operation runs once however many requests
// come together. The response is kept, sealed, for requests that come again: the same
// request, or one that brings the same parameters. A request that has nothing but the
// session's ID, which reaches the logs of proxies too, gets only the list of completed
// stages.
//
// # Words
//
//   - session: one client's way through the flows of one operation. Its ID is the
//     client's and a secret, its Key is what everybody else calls it.
//   - use: one of the accounts that a token allows, from the moment it is set aside.
//   - held: the use is set aside for a session until a time. Firmly until then; after
//     that it has lapsed, and another session may displace it. Until one does, it is
//     still the session's.
//   - pinned: the use is set aside until it is decided, however long that takes: the
//     operation runs, or is in doubt.
//   - spent: an account was made from the use. This is final.
//   - lease: a request's right to run the operation of a session. It ends by itself
//     after LeaseTTL, and then another request may take it.
//   - run: one execution of an operation under a lease. Runs of a session are
//     numbered. What bears a run's number refuses every earlier run, so that a run
//     that was overtaken can change nothing any more.
//   - in doubt: a run has ended without saying whether the operation took effect.
//     [Engine.Recover] asks [Operation.Resolve], and spends the use or gives it back.
//
// # Three ways in
//
// For a homeserver: [Config], [New], [Operation], [Engine.Serve] or [Engine.Run] (for
// handlers that return their response), [Session], [Effect], [Error], and
// [Engine.Maintain] in a goroutine. Package register is registration on top of them,
// package stages has passwords, terms, captchas and e-mail.
//
// For a stage: [Stage] is one method and a name. Each further thing that a stage can do
// is an interface of its own: [ParamsStage], [OpeningStage], [FreeStage],
// [ConfiguredStage], [Sweeper], and [TxStage] for one that sets something aside. Package
// form has the forms of the fallback page.
//
// For a database: [TokenStore], [SessionStore], and optionally [Grouper] and
// [TxStore]. Their documentation is the contract, and package storetest tests it.
//
// # What is promised
//
// Tests check each promise: promise_1_*_test.go and so on.
//
//  1. A token never makes more accounts than it allows: not under concurrency, not
//     across processes with skewed clocks, not when a process is killed or stalls
//     at any instruction, provided that the database keeps what it has committed.
//  2. A use is never lost. An abandoned registration gives its use back by itself,
//     with no sweeper running. A crash while the account is being made leaves the
//     use visibly in doubt, and [Engine.Recover] resolves it by asking the
//     homeserver; where accounts live in the same database, one transaction
//     ([Operation.Tx]) removes the doubt.
//  3. The guarded operation takes effect once per session. Concurrent and repeated
//     final requests get the same response.
//  4. An unauthenticated flood writes nothing. A request that proves nothing costs
//     no database write, and no memory that outlives it but a bounded entry of the
//     [Limiter], and the latest parameters of a bounded number of sessions. A stage
//     that everybody passes proves nothing: flows that can begin with one ([FreeStage]:
//     m.login.dummy, terms) cost a write for each session, and New warns of them. A
//     stage that sends mail costs what its own limiter allows. Where secrets rotate,
//     the first request after the time of a rotation writes the new secret, once for
//     each rotation however many requests there are.
//  5. The database holds nothing that can be replayed, the registration tokens
//     themselves excepted, since an administrator must be able to read them.
//     Session IDs are not stored; parameters (passwords) and responses (access
//     tokens) are sealed under a key that needs the session ID, so that not even
//     the secret in the same database opens them.
//  6. Guessing tokens is expensive everywhere at once: every stage, the fallback
//     page and the validity endpoint draw on one budget of failures per client.
//
// # Where the promises end
//
// They are as good as the database's own. Asynchronous fail-over, PostgreSQL's
// synchronous_commit=off, or SQLite's synchronous=NORMAL under power loss can undo
// the last moments before a crash. With Tx the account and the use of its
// token are then undone together; without it an account may outlive its use.
//
// Unless Tx is set, promises 1 to 3 depend on the homeserver for one thing: it makes at
// most one account per [Session.Key], by a unique index, and can say whether the account
// of a key was made ([Operation.Resolve]).
//
// Promise 6 is one budget in each process; package limit/redislimit shares it between
// processes.
//
// A session ID is a capability for as long as the session lasts: a client that has one
// can go on with the session. Clients send it in bodies, but the fallback page has it in
// its URL.
//
// # Where to read next
//
// The examples of this package are named by wish. The directory examples/homeserver
// is a small homeserver that real clients register on.
package uia
