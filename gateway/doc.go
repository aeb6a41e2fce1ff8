// Package gateway gives a homeserver that is there already, in whatever language,
// registration with tokens: a [Handler] in front of it serves everything about
// registration itself, with package register and package uia, and passes
// everything else on.
//
//	           clients
//	              |
//	           Handler ---- register, tokens, fallback page: here
//	           |     \
//	everything |      Accounts ---- ClaimStore
//	    else   |          |
//	           |       Upstream: SharedSecret or PrivateRegistration
//	           v          v
//	        the homeserver behind it
//
// An [Accounts] is the register.Accounts of such a registration: it makes accounts
// at the homeserver, which this package calls the upstream. A [ClaimStore]
// remembers how far each registration has come. Package sqlclaims keeps it in the
// database of the tokens, [MemoryClaims] in the memory of one process.
//
//	client := &gateway.Client{URL: "http://127.0.0.1:8008"}
//	accounts, err := gateway.NewAccounts(gateway.AccountsOptions{
//		Upstream:   &gateway.SharedSecret{Client: client, ServerName: "example.org", Secret: secret},
//		Claims:     sqlclaims.New(store),
//		ServerName: "example.org",
//		Secrets:    secrets, // uia.Config's
//	})
//	...
//	reg := &register.Registration{Accounts: accounts, Resolve: accounts.Resolve, ServerName: "example.org", ...}
//	engine, err := uia.New(uia.Config{Operations: []uia.Operation{reg.Operation()}, ...})
//	...
//	handler, err := gateway.New(gateway.Options{Upstream: upstreamURL, Engine: engine, Registration: reg, ...})
//
// [uia.Engine.Maintain] and [Accounts.Maintain] run beside the handler, and
// [Client.Check] tells whether people can register past the gateway. A
// uia.Config.LeaseTTL of 20 seconds and a Client.Timeout of 5 suit a gateway: after a
// crash a client waits for no longer. The http.Server needs a ReadHeaderTimeout, and
// must have no ReadTimeout and no WriteTimeout, which would end long polls and uploads.
//
// # Two ways to make an account
//
// [SharedSecret] uses /_synapse/admin/v1/register, which Synapse and Dendrite have.
// Their own registration can then be switched off altogether, which is the safest
// way to close it. [PrivateRegistration] registers as a client would, in a session
// of its own, with a registration token of the upstream that nobody else knows: it
// works with every homeserver that has registration tokens.
//
// # What is promised
//
// A token makes no more accounts than it allows, and a use is not lost, whenever either
// process or the connection between them fails: the claim says so before the request that
// makes an account is sent, and whether the account was made is found out later. A client
// that comes back gets its account with the password that it chose, and a device of its
// own. A client that does not come back is settled by Recover: with a PrivateRegistration
// the upstream's session is finished with the parameters that it has; with a SharedSecret
// the upstream is asked whether the account is there.
//
// # Where the promise ends
//
// One account per key, no use lost. But a use can be recorded for an account that
// somebody made at the upstream in another way, under the same name, within the seconds
// of a crash: the upstream says that the name is taken, but not by whom. (Synapse with a
// PrivateRegistration says it; see Repeats.) And with a SharedSecret an upstream that
// takes longer than SharedSecret.Fence for a request can make an account after its use
// was given back; [Accounts.Sweep] looks for such accounts and reports them.
//
// Nobody can be given the access token of a login whose answer was lost: another
// login is made. The lost one is a device of the account until its user removes it,
// unless the client named its device, which is then the same.
//
// # Closing the upstream
//
// The handler takes every spelling of the registration's path that an upstream
// understands, but the upstream has to be closed itself: by enable_registration:
// false (Synapse) or registration_disabled: true (Dendrite) and a SharedSecret, or by
// requiring a token that only the gateway has.
//
// # The upstream's limits
//
// To the upstream all registrations come from one address, unless it believes the
// X-Forwarded-For that it is sent (Synapse: x_forwarded: true): otherwise its limits for
// one address are soon those of everybody. A client that meets such a limit gets the time
// to wait, and its session goes on.
package gateway
