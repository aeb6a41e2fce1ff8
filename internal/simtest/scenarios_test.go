package simtest

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/fallback"
	"github.com/matrix-uia/uia/limit"
)

var (
	flowT  = uia.Flow{uia.TokenType}
	flowTD = uia.Flow{uia.TokenType, "m.login.dummy"}
)

// inOne is a client whose flow is the token alone, two a client whose flow has a dummy
// stage behind it, which has passed the token stage before.
func inOne(user, token string) Client { return Client{Legs: []Leg{tokenLeg(user, token)}} }
func inTwo(user, token string) Client {
	return Client{Legs: []Leg{tokenLeg(user, token), dummyLeg(user)}}
}
func passed(user, token string) Client {
	c := inTwo(user, token)
	c.Sent = 1
	return c
}

func update(proc int, value string, p uia.TokenPatch) func(context.Context, *world) {
	return func(ctx context.Context, w *world) { _, _ = Store{w}.UpdateToken(ctx, value, p, w.now(proc)) }
}

// scenarios are explored on every kind of database.
var scenarios = []Scenario{
	{
		Name: "same: two final requests of one session, in two processes, and Recover",
		Flow: flowTD, Processes: 2, Steps: true, Tokens: []Token{{Value: "x", Uses: 1}}, Clients: []Client{passed("u", "x")}, Sole: true,
		Actors: func(*world) []*actor {
			return []*actor{client("a", 0, 0, dummyLeg("u")), client("b", 1, 0, dummyLeg("u")), recoverer(1, 1)}
		},
	},
	{
		Name: "same1: two requests of one session that do everything, in one process",
		Flow: flowT, Processes: 1, Steps: true, Tokens: []Token{{Value: "x", Uses: 1}}, Clients: []Client{inOne("u", "x")}, Sole: true,
		Actors: func(*world) []*actor {
			return twins(client("a", 0, 0, tokenLeg("u", "x")), client("b", 0, 0, tokenLeg("u", "x")))
		},
	},
	{
		Name: "one: a client alone, which tries again",
		Flow: flowT, Processes: 1, Steps: true, Tokens: []Token{{Value: "x", Uses: 1}}, Clients: []Client{inOne("u", "x")}, Sole: true,
		Actors: func(*world) []*actor {
			return []*actor{client("a", 0, 0, tokenLeg("u", "x"), tokenLeg("u", "x"))}
		},
	},
	{
		Name: "two: two sessions want the one use, and Recover",
		Flow: flowT, Processes: 2, Steps: true, Tokens: []Token{{Value: "x", Uses: 1}}, Clients: []Client{inOne("u", "x"), inOne("v", "x")},
		Actors: func(*world) []*actor {
			return []*actor{client("a", 0, 0, tokenLeg("u", "x")), client("b", 1, 1, tokenLeg("v", "x")), recoverer(1, 1)}
		},
	},
	{
		Name: "differ: final requests of one session with different names, and Recover",
		Flow: flowTD, Processes: 2, Steps: true, Tokens: []Token{{Value: "x", Uses: 1}}, Clients: []Client{passed("u", "x")}, Differ: true,
		Actors: func(*world) []*actor {
			return []*actor{client("a", 0, 0, dummyLeg("u")), client("b", 1, 0, dummyLeg("v")), recoverer(1, 1)}
		},
	},
	{
		Name: "admin: a token is revoked and allowed again",
		Flow: flowT, Processes: 2, Steps: true, Tokens: []Token{{Value: "x", Uses: 1}}, Clients: []Client{inOne("u", "x"), inOne("v", "x")},
		Actors: func(*world) []*actor {
			return []*actor{
				client("a", 0, 0, tokenLeg("u", "x")), client("b", 1, 1, tokenLeg("v", "x")),
				script("admin", 1, update(1, "x", uia.TokenPatch{Revoked: new(true)}), update(1, "x", uia.TokenPatch{Revoked: new(false)})),
			}
		},
	},
	{
		Name: "delete: a token is deleted and made again",
		Flow: flowT, Processes: 2, Tokens: []Token{{Value: "x", Uses: 1}}, Clients: []Client{inOne("u", "x"), inOne("v", "x")}, Leaks: true,
		Actors: func(*world) []*actor {
			return []*actor{client("a", 0, 0, tokenLeg("u", "x")), client("b", 1, 1, tokenLeg("v", "x")), script("admin", 1,
				func(ctx context.Context, w *world) { _ = Store{w}.DeleteToken(ctx, "x") },
				func(ctx context.Context, w *world) {
					w.allowed++
					_ = Store{w}.CreateTokens(ctx, uia.Token{Value: "x", UsesAllowed: new(int64(1))})
				})}
		},
	},
	{
		Name: "tokens: a session is sent two tokens, and then the end",
		Flow: flowTD, Processes: 2, Steps: true, Tokens: []Token{{Value: "x", Uses: 1}, {Value: "y", Uses: 1}}, Clients: []Client{inTwo("u", "x")}, Differ: true,
		Actors: func(*world) []*actor {
			return []*actor{
				client("a", 0, 0, tokenLeg("u", "x"), dummyLeg("u")),
				client("b", 1, 0, tokenLeg("u", "y"), dummyLeg("u")),
			}
		},
	},
	{
		Name: "lapse: a hold lapses while its session goes on, and another session takes its place",
		Flow: flowTD, Processes: 2, Skew: []time.Duration{0, 11 * time.Minute}, Tokens: []Token{{Value: "x", Uses: 1}},
		Clients: []Client{passed("u", "x"), inTwo("v", "x")},
		Actors: func(*world) []*actor {
			return []*actor{
				client("a", 0, 0, dummyLeg("u"), tokenLeg("u", "x"), dummyLeg("u")),
				client("b", 1, 1, tokenLeg("v", "x"), dummyLeg("v")),
			}
		},
	},
	{
		Name: "refused: the operation refuses, then does not, and Recover",
		Flow: flowTD, Processes: 2, Steps: true, Tokens: []Token{{Value: "x", Uses: 1}}, Clients: []Client{passed("u", "x")}, Differ: true,
		Actors: func(*world) []*actor {
			return []*actor{client("a", 0, 0, dummyLeg("bad"), dummyLeg("u")), client("b", 1, 0, dummyLeg("bad")), recoverer(1, 1)}
		},
	},
	{
		Name: "pair: two final requests of one session, in two processes",
		Flow: flowTD, Processes: 2, Steps: true, Tokens: []Token{{Value: "x", Uses: 1}}, Clients: []Client{passed("u", "x")}, Sole: true,
		Actors: func(*world) []*actor {
			return []*actor{client("a", 0, 0, dummyLeg("u")), client("b", 1, 0, dummyLeg("u"))}
		},
	},
	{
		Name: "recovered: a client whom the operation refuses first, and Recover",
		Flow: flowTD, Processes: 2, Steps: true, Tokens: []Token{{Value: "x", Uses: 1}}, Clients: []Client{passed("u", "x")}, Differ: true,
		Actors: func(*world) []*actor {
			return []*actor{client("a", 0, 0, dummyLeg("bad"), dummyLeg("u")), recoverer(1, 1)}
		},
	},
	{
		Name: "letgo: the operation refuses, its client gives up, and another session wants the token",
		Flow: flowTD, Processes: 2, Steps: true, Tokens: []Token{{Value: "x", Uses: 1}}, Clients: []Client{passed("u", "x"), inTwo("v", "x")},
		Actors: func(*world) []*actor {
			return []*actor{client("a", 0, 0, dummyLeg("bad")), client("b", 1, 1, tokenLeg("v", "x"), dummyLeg("v"))}
		},
	},
	{
		Name: "displace: two requests of one session, and a clock by which holds lapse at once",
		Flow: flowT, Processes: 2, Skew: []time.Duration{0, 11 * time.Minute}, Tokens: []Token{{Value: "x", Uses: 1}},
		Clients: []Client{inOne("u", "x"), inOne("v", "x")},
		Actors: func(*world) []*actor {
			return append(twins(client("a", 0, 0, tokenLeg("u", "x")), client("b", 0, 0, tokenLeg("u", "x"))), client("c", 1, 1, tokenLeg("v", "x")))
		},
	},
	{
		Name: "stages: two stages hold something, and one of the tokens is revoked",
		Flow: uia.Flow{uia.TokenType, uia.TokenTypeUnstable, "m.login.dummy"}, Processes: 2, Steps: true,
		Tokens:  []Token{{Value: "x", Uses: 1}, {Value: "y", Uses: 1}},
		Clients: []Client{{Legs: []Leg{tokenLeg("u", "x"), {uia.TokenTypeUnstable, "u", "y"}, dummyLeg("u")}, Sent: 2}}, TwoUses: true,
		Actors: func(*world) []*actor {
			return []*actor{
				client("a", 0, 0, dummyLeg("u")), client("b", 1, 0, dummyLeg("u")),
				script("admin", 1, update(1, "x", uia.TokenPatch{Revoked: new(true)})),
			}
		},
	},
	{
		Name: "restored: the same, and the token is allowed again",
		Flow: uia.Flow{uia.TokenType, uia.TokenTypeUnstable, "m.login.dummy"}, Processes: 2, Steps: true,
		Tokens:  []Token{{Value: "x", Uses: 1}, {Value: "y", Uses: 1}},
		Clients: []Client{{Legs: []Leg{tokenLeg("u", "x"), {uia.TokenTypeUnstable, "u", "y"}, dummyLeg("u")}, Sent: 2}}, TwoUses: true,
		Actors: func(*world) []*actor {
			return []*actor{
				client("a", 0, 0, dummyLeg("u")), client("b", 1, 0, dummyLeg("u")),
				script("admin", 1, update(1, "x", uia.TokenPatch{Revoked: new(true)}), update(1, "x", uia.TokenPatch{Revoked: new(false)})),
			}
		},
	},
	{
		Name: "sweep: a clock that is a day ahead sweeps",
		Flow: flowTD, Processes: 2, Skew: []time.Duration{0, 26 * time.Hour}, Tokens: []Token{{Value: "x", Uses: 1}},
		Clients: []Client{passed("u", "x"), inTwo("v", "x")}, Sweeps: true, Leaks: true,
		Actors: func(*world) []*actor {
			return []*actor{client("a", 0, 0, dummyLeg("u")), client("b", 0, 0, dummyLeg("u"), tokenLeg("u", "x")), recoverer(1, 1)}
		},
	},
	{
		Name: "sweep2: the same, and another session wants the token",
		Flow: flowT, Processes: 2, Skew: []time.Duration{0, 26 * time.Hour}, Tokens: []Token{{Value: "x", Uses: 1}},
		Clients: []Client{inOne("u", "x"), inOne("v", "x")}, Sweeps: true, Leaks: true,
		Actors: func(*world) []*actor {
			return []*actor{client("a", 0, 0, tokenLeg("u", "x")), client("b", 0, 1, tokenLeg("v", "x")), recoverer(1, 1)}
		},
	},
	{
		Name: "lower: three sessions want two uses, and the limit is lowered",
		Flow: flowT, Processes: 2, Tokens: []Token{{Value: "x", Uses: 2}}, Clients: []Client{inOne("u", "x"), inOne("v", "x"), inOne("w", "x")},
		Actors: func(*world) []*actor {
			return append(twins(client("b", 1, 1, tokenLeg("v", "x")), client("c", 1, 2, tokenLeg("w", "x"))),
				client("a", 0, 0, tokenLeg("u", "x")), script("admin", 1, update(1, "x", uia.TokenPatch{UsesAllowed: new(new(int64(1)))})))
		},
	},
	{
		Name: "outofband: the token stage is completed out of band while the client completes it",
		Flow: flowTD, Processes: 2, Steps: true, Tokens: []Token{{Value: "x", Uses: 1}, {Value: "y", Uses: 1}}, Clients: []Client{inTwo("u", "x")}, Differ: true,
		Actors: func(*world) []*actor {
			return []*actor{
				client("a", 0, 0, tokenLeg("u", "x"), dummyLeg("u")), client("b", 1, 0, dummyLeg("u")),
				script("link", 1, func(ctx context.Context, w *world) {
					err := w.engines[1].Complete(ctx, uia.Completion{Session: w.sc.begin.sessions[0], Type: uia.TokenType, Result: []byte(`{"token":"y","until":0}`)})
					actorOf(ctx).note(err)
				}),
			}
		},
	},
	{
		Name: "takers: three requests of one session take over from each other, and Recover twice",
		Flow: flowTD, Processes: 3, Steps: true, Tokens: []Token{{Value: "x", Uses: 1}}, Clients: []Client{passed("u", "x")}, Differ: true,
		Actors: func(*world) []*actor {
			return []*actor{client("a", 0, 0, dummyLeg("u")), client("b", 1, 0, dummyLeg("v")), client("c", 2, 0, dummyLeg("u")), recoverer(2, 2)}
		},
	},
	{
		Name: "name: two sessions want the same name with tokens of their own, and Recover",
		Flow: flowT, Processes: 2, Steps: true, Tokens: []Token{{Value: "x", Uses: 1}, {Value: "y", Uses: 1}},
		Clients: []Client{inOne("w", "x"), inOne("v", "y")},
		Actors: func(*world) []*actor {
			return []*actor{client("a", 0, 0, tokenLeg("u", "x")), client("b", 1, 1, tokenLeg("u", "y"), tokenLeg("v", "y")), recoverer(1, 1)}
		},
	},
	{
		Name: "expiry: a token expires between its stage and the end, and a hold made in time counts",
		Flow: uia.Flow{uia.TokenType, passType, "m.login.dummy"}, Processes: 2, HoldTTL: 20 * time.Second, Tokens: []Token{{Value: "x", Uses: 1, Expires: 10 * time.Second}},
		Clients: []Client{{Legs: []Leg{tokenLeg("u", "x"), {Type: passType, User: "u"}, dummyLeg("u")}, Sent: 1}}, Sole: true,
		Actors: func(*world) []*actor {
			return []*actor{client("a", 0, 0, Leg{Type: passType, User: "u"}, dummyLeg("u")), client("b", 1, 0, Leg{}), recoverer(1, 1)}
		},
		AtEnd: func(w *world) {
			broke := slices.ContainsFunc(w.told, func(m told) bool { return m.status >= 500 })
			if w.faults == 0 && w.clocks < 2 && !broke && w.account(0) == "" {
				w.wrong("S0 passed its stage in time, and got no account")
			}
		},
	},
	{
		Name: "short: holds that lapse while everything stalls",
		Flow: flowTD, Processes: 2, HoldTTL: 12 * time.Second, Tokens: []Token{{Value: "x", Uses: 1}},
		Clients: []Client{passed("u", "x"), inTwo("v", "x")}, Leaks: true,
		Actors: func(*world) []*actor {
			return []*actor{client("a", 0, 0, dummyLeg("u")), client("b", 1, 1, tokenLeg("v", "x"), dummyLeg("v")), recoverer(1, 1)}
		},
	},
	{
		Name: "limiter: guesses at once spend no more than the budget, and a right token spends nothing",
		Flow: flowTD, Processes: 1, Tokens: []Token{{Value: "x", Uses: 1}}, Clients: []Client{inTwo("u", "x"), {Legs: []Leg{tokenLeg("v", "no"), dummyLeg("v")}}},
		Unpruned: true, Kinds: "mem pg-tx", // it is kept by the process
		Configure: func(w *world, proc int, c *uia.Config) {
			l, err := limit.New(&limit.Options{Burst: 2, Refill: time.Hour, Now: c.Now})
			if err != nil {
				panic(err)
			}
			c.Limiter = l
			c.Client = func(*http.Request) netip.Addr { return address }
		},
		Actors: func(*world) []*actor {
			return append(twins(client("a", 0, 1, tokenLeg("v", "no")), client("b", 0, 1, tokenLeg("v", "no"))),
				client("c", 0, 0, tokenLeg("u", "x"), dummyLeg("u")), client("d", 0, 1, tokenLeg("v", "no")))
		},
		AtEnd: func(w *world) {
			looked, refused := 0, 0
			for _, m := range w.told {
				switch {
				case m.actor == "" || m.leg.Token == "x" && m.status == 429 && looked == 2:
				case m.leg.Token == "no" && m.status == 401:
					looked++
				case m.leg.Token == "no" && m.status == 429:
					refused++
				}
			}
			if looked > 2 {
				w.wrong("%d guesses were looked at, the budget is 2", looked)
			}
			if looked < 2 && refused > 0 {
				w.wrong("%d guesses were refused, though only %d were wrong", refused, looked)
			}
		},
	},
	{
		Name: "fallback: the token stage is completed on the fallback page, while the client polls and ends",
		Flow: flowTD, Processes: 2, Steps: true, Tokens: []Token{{Value: "x", Uses: 1}, {Value: "y", Uses: 1}}, Clients: []Client{inTwo("u", "x")}, Differ: true,
		Actors: func(*world) []*actor {
			return []*actor{
				script("page", 1, func(ctx context.Context, w *world) { postPage(ctx, w, 1, "y") }, func(ctx context.Context, w *world) { postPage(ctx, w, 1, "y") }),
				client("a", 0, 0, Leg{User: "u"}, dummyLeg("u"), tokenLeg("u", "x"), dummyLeg("u")),
			}
		},
	},
}

// postPage sends the form of the fallback page.
func postPage(ctx context.Context, w *world, proc int, token string) {
	page, err := fallback.New(w.engines[proc], nil)
	if err != nil {
		panic(err)
	}
	session := w.sc.begin.sessions[0]
	r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/_matrix/client/v3/auth/"+uia.TokenType+"/fallback/web?session="+url.QueryEscape(session),
		strings.NewReader(url.Values{"session": {session}, "token": {token}}.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	answer := httptest.NewRecorder()
	page.ServeHTTP(answer, r)
	actorOf(ctx).note(answer.Code)
	w.log("        the page answers %d", answer.Code)
	if answer.Code >= 500 && w.faults == 0 && w.clocks == 0 {
		w.wrong("the page answers %d", answer.Code)
	}
}

// all are the scenarios on each kind of database.
func all() (out []*Scenario) {
	for _, k := range kinds {
		for _, sc := range scenarios {
			name, _, _ := strings.Cut(sc.Name, ":")
			sc.Name, sc.kind = name, k
			if sc.Kinds == "" || slices.Contains(strings.Fields(sc.Kinds), k.name) {
				out = append(out, &sc)
			}
		}
	}
	return out
}
