// Package restauth keeps accounts beside a homeserver that asks for them: the protocol of
// matrix-synapse-rest-auth (matrix-synapse-rest-password-provider), both sides. The
// homeserver sends each password that somebody logs in with to check_credentials, and makes
// its own user at the first right one.
//
//	client ---- gateway.Handler ------------------> homeserver
//	              |  registration,                    |
//	              |  /account/password,               | whose password is this?
//	              |  /account/deactivate              v
//	            Accounts ---- AccountStore <---- NewHandler
//
// [Accounts] are the accounts of a register.Registration, usually behind a gateway.Handler.
// They are kept in an [AccountStore]: package sqlaccounts has them in the database of the
// tokens. [NewHandler] answers the homeserver, by [Accounts.Verify] or by any other
// [Verify]. [Client] is the other side, for a homeserver in Go whose accounts are kept in
// such a service: its Verify is a stages.PasswordStage's and a login's.
//
//	accounts, err := restauth.NewAccounts(restauth.Options{
//		Store: sqlaccounts.New(store), Homeserver: &gateway.Client{URL: "http://127.0.0.1:8008"}, ServerName: "example.org", Secrets: secrets,
//	})
//	...
//	reg := &register.Registration{Accounts: accounts, Resolve: accounts.Resolve, HashPassword: accounts.HashPassword, ...}
//	engine, err := uia.New(uia.Config{
//		Stages:     []uia.Stage{&uia.TokenStage{Store: store}, &stages.PasswordStage{Verify: accounts.Verify}},
//		Operations: append(accounts.Operations(), reg.Operation()), ...})
//	...
//	guard, err := accounts.Guard(engine)
//	...
//	front, err := gateway.New(gateway.Options{Account: guard, ...})
//	...
//	asked, err := restauth.NewHandler(accounts.Verify, restauth.HandlerOptions{ServerName: "example.org", Secret: secret})
//	...
//	http.Handle(restauth.Path, asked) // on a listener of its own, which only the homeserver reaches
//
// # The homeserver
//
// A request has to prove that it is the homeserver's, because whoever may ask can guess
// passwords. The module for Synapse has no setting for that, but it sends its requests with
// Python's requests, which finds a user and a password in two places, and sends them as HTTP
// Basic authentication:
//
//   - in the file .netrc of the user who runs Synapse (or the file that the environment
//     variable NETRC names), where nobody else reads it and Synapse does not log it:
//     machine 127.0.0.1 login synapse password SECRET
//   - in the module's setting endpoint, http://synapse:SECRET@127.0.0.1:8090. The module
//     writes its endpoint to Synapse's log.
//
// So a secret works with the module as it is, and it is what HandlerOptions.Secret is for.
// HandlerOptions.Networks admits by address instead, or as well. An address alone is enough
// for a homeserver on the same machine that nobody else has an account on; requests that a
// proxy has passed on are then refused.
//
// At Synapse, password_config.localdb_enabled: false switches off the passwords that it
// keeps itself. Where it is on, both work for a user who has both.
//
// # What is promised
//
//   - An account is not made under a name that the homeserver has: its user would be taken
//     over, since the homeserver accepts whoever has a password here. The homeserver is
//     asked again directly before the account is made. Its own registration has to be
//     closed.
//   - A token makes no more accounts than it allows, and no use is lost: the accounts are
//     here, and Resolve knows.
//   - Wrong passwords and unknown, deactivated and impossible users get one answer, in the
//     time of one hash; wrong ones are limited for each name. A password that no account
//     can have (CheckPassword) is wrong at once, whoever the user is.
//   - A new password is the only one: the gateway serves /account/password and
//     /account/deactivate itself, for the users whose accounts are here. By an access token
//     only: resetting a password by mail is refused, because the homeserver would set a
//     password of its own.
//   - No password is logged, and none is in an error.
//
// For what the homeserver guards with the user's password (signing out other devices,
// deactivation) and for the first login, this package has tickets: passwords that are good
// for one user and a minute, made from the engine's secrets, and kept nowhere.
package restauth
