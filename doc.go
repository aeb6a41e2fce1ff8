// Package uia is User-Interactive Authentication for Matrix homeservers, and
// registration with tokens (MSC3231, m.login.registration_token) on top of it.
//
// A homeserver lists its guarded endpoints as [Operation] values and the ways to
// prove something as [Stage] values, makes one [Engine] of them with [New], and
// guards an endpoint with [Engine.Serve], or with [Engine.Authenticate] and
// [Grant.Finish] where it needs the steps apart. Package register is POST
// /register on top of that, [ValidityHandler] the endpoint that tells whether a
// token is valid. Tokens and sessions are kept in a [Store]: package memstore
// keeps them in memory, package sqlstore in SQLite or PostgreSQL.
//
// # User-Interactive Authentication
//
// A client asks for something that needs authentication, and gets a 401 with the
// flows it can choose from, each a list of stages, and the ID of a session. It
// repeats the request with an auth member that completes one stage after another,
// until the operation runs and answers. The protocol is described in the
// Client-Server API, "User-Interactive Authentication API".
//
// Here a session ID is the session itself, sealed: the first leg writes nothing.
// A record is kept from the first completed stage on. The request that completes
// the last one takes the session as its own for a while (a lease), so that the operation runs once however many
// requests come together, and the response is kept, sealed, for those that come
// again.
//
// # What is promised
//
// A test stands behind each of these.
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
//     [Limiter].
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
// Promises 1 to 3 lean on the homeserver for one thing: it makes at most one
// account per [Session.Key], by a unique index. Without Tx it must also be
// able to tell what became of a key ([Operation.Resolve]).
//
// A session ID is a capability for as long as the session lasts: whoever has one
// can go on with the session. Clients send it in bodies, but the fallback page has
// it in its URL.
//
// # Where to read next
//
// [Engine.Serve] and [Grant.Finish] for guarding endpoints, [Stage] and [TxStage]
// for new stages, [TokenStore] for new databases (package storetest tests them),
// package register for registration. The directory examples/homeserver is a small
// homeserver that real clients register on.
package uia
