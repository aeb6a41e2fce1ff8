// Package uiatest is a conformance kit for homeservers that register accounts
// with User-Interactive Authentication and registration tokens (MSC3231). It
// speaks HTTP only, so the homeserver under test can be written in any language
// and need not use package uia.
//
// # Ten lines
//
// In a Go test, against an [http.Handler]:
//
//	func TestConformance(t *testing.T) {
//		uiatest.TestServer(t, uiatest.Server{
//			Handler: myHomeserver,
//			NewToken: func(ctx context.Context, t uiatest.NewToken) (string, error) {
//				return t.Value, myHomeserver.CreateToken(ctx, t.Value, t.Uses, t.Expires)
//			},
//		})
//	}
//
// Against a homeserver that runs somewhere, give URL instead of Handler, and
// instead of NewToken an AdminToken (an access token for the administration that
// Synapse has) or Tokens (a list of unused single-use tokens). Without Go, the
// command cmd/uiacheck does the same:
//
//	uiacheck -url http://127.0.0.1:8008 -admin-token syt_...
//
// # What the levels mean
//
// A case is at one of three levels, and says what it stands on:
//
//   - [Must]: the case quotes the sentence of the specification or the proposal that
//     the homeserver breaks. The sentence says must, about the server; where it has no
//     such word Case.Because says what else binds, such as a schema that requires the
//     member. What is checked is that sentence and no more: an error that has its
//     format breaks no sentence about the format, even with status 500.
//   - [Should]: what is right, but not demanded: a malformed request is no error of the
//     server, a single-use token makes one account when eight clients race for it.
//   - [Client]: a client cannot register, or an administration tool cannot manage
//     tokens, otherwise. Case.Place names it with the version that was seen to send
//     what the case sends.
//
// Case.Kills is the mistake that the case finds. For each there is a homeserver that
// makes it in the tests of the kit, and every case fails on its own. What homeservers
// in the field have answered is kept in testdata, with what the kit is to say of it.
//
// # What is measured, and what is not
//
// Before the cases it is looked whether there is a homeserver, whether registration is
// open, whether the admin token is one, whether the password passes the policy, and
// whether the tokens suffice. What has to be mended is an error, a [*SetupError], and
// nothing is measured.
//
// A case that needs what is not there is reported as not applicable with the reason, in
// a Go test as skipped, and never as passed. Tokens that nobody can make, an
// administration that nobody has a token for, a flow of other stages than the token and
// m.login.dummy, and all that Server.Lacks lists are such reasons. Where m.login.dummy
// alone suffices, accounts are made with that, and what is about tokens does not apply.
//
// An endpoint that is not there at all fails one case, of the area "offers", and what
// needs it does not apply. Whether there are guests, refresh tokens, terms, mails, keys
// for cross-signing, names of devices and a page on which an invite link ends (at
// /register?token=...) the homeserver is asked by a probe
// (cases/features.json), and that there are none is no failure.
//
// # What a run does to the homeserver
//
// It registers some forty accounts named uiatest-..., and deletes the tokens it has made
// through the administration, not the accounts. Where there are guests it makes some, and
// where there is a stage for addresses it asks for mails to a few below uiatest.invalid.
// The cases make at most [MaxGuesses] failed guesses at tokens in all, and those of the
// area "limits" Options.Guesses more in each way to guess, to see whether it is limited.
// Cases run in any order and side by side, but for those of "limits", which come last. A
// report shows no access token and no password.
//
// Homeservers limit how many accounts are made. A case that only needs an account, or
// judges an answer that a registration gets in any case, borrows one that other cases use
// before and after it: while it runs nobody else does. Who registers in a way of its own,
// or spoils the account, has one of its own, and an account that a failed case has had is
// lent to nobody again.
//
// Homeservers also limit what an address may do. Each case is a client with an address of
// its own where that can be: against a Handler, and on the loopback interface of
// systems that have all of 127.0.0.0/8 there. Elsewhere limits are met, and a run takes
// as long as they want. An answer with status 429 is waited out as long as it asks for,
// wherever a case does not expect it; meanwhile cases run that have nothing to do with
// that endpoint. Behind one address, and with the limits that Synapse has by default, a
// run takes four minutes.
//
// # The cases are data
//
// [Data] is a file system of JSON files: cases/*.json, and cases.schema.json, a
// JSON Schema that describes every member, so that the cases can be run by a
// program in another language. In short: a case is a list of steps; a step is a
// request and what is expected of its answer. Strings contain variables such as
// ${session}, saved from an earlier answer, ${user.a}, a username that nobody else uses,
// ${token.a}, a token that the case declares, ${account.a.user}, the username of an account
// that it borrows, and ${guess.a}, a token that does not exist. A step with a member "use"
// stands for the steps of the sequence of that name (cases/sequences.json), one with
// "registered" judges the answer with which a borrowed account (cases/accounts.json) was
// registered, and one with "when" is only for the flow named there: T, the token alone, or
// TD, the token and then m.login.dummy.
package uiatest
