package simtest

// budget reads bounds.
func budget(s string) Budget {
	b, err := ParseBudget(s)
	if err != nil {
		panic(err)
	}
	return b
}

// mistakes are planted one by one, and found within the budget. Where
// several names are given they are one mistake: that by which a single-use token once
// made two accounts took three fences to be down.
var mistakes = []mistake{
	// Who is told what.
	{names: "check before replay", scenario: "mem/same", budget: budget("P0F0C0"), says: "taken, but nothing went wrong"},
	{names: "replay to strangers", scenario: "mem/same", budget: budget("P0F0C0"), says: "a stranger's poll of S0 is told"},
	{names: "a lease ends early", scenario: "mem/differ", budget: budget("P1F0C0"), says: "b, who wanted v, was told"},
	{names: "the second answer is told", scenario: "mem/same", budget: budget("P1F0C1"), says: "of S0 two clients were told"},
	{names: "alreadyDone does not wait", scenario: "mem/same", budget: budget("P1F0C1"), says: "the result was about to be recorded"},
	{names: "a spent use is an error", scenario: "mem/same", budget: budget("P0F1C0"), says: "is told twice 500"},
	{names: "a lost Reserve is a refusal", scenario: "mem/one", budget: budget("P0F1C0"), says: "nobody else wants the token"},
	{names: "a right token is charged", scenario: "mem/limiter", budget: budget("P0F0C0"), says: "guesses were refused, though only"},
	{names: "guesses are free", scenario: "mem/limiter", budget: budget("P0F0C0"), says: "3 guesses were looked at"},

	// Sessions come to an end.
	{names: "a dead session is finished", scenario: "mem/same1", budget: budget("P0F1C0"), says: "is not told to start again"},
	{names: "no burial", scenario: "mem/same", budget: budget("P0F2C0"), says: "is told twice 400"},
	{names: "no doubt after a takeover", scenario: "mem/same1", budget: budget("P0F1C0"), says: "is told twice 400"},
	{names: "N1: a stuck pin", scenario: "mem/recovered", budget: budget("P0F2C0"), says: "is not told to start again"},
	{names: "N1: an overtaken pin", scenario: "mem/recovered", budget: budget("P1F1C1"), says: "is not told to start again"},
	{names: "N1: a lost pin", scenario: "mem/recovered", budget: budget("P1F1C1"), says: "is not told to start again"},
	{names: "a stuck rollback leaves no doubt", scenario: "mem/refused", budget: budget("P0F2C0"), says: "is not told to start again"},
	{names: "overtaken but reopened", scenario: "mem/refused", budget: budget("P1F0C1"), says: "is not told to start again"},
	{names: "giving up leaves no doubt", scenario: "mem/same", budget: budget("P1F0C1"), says: "is not told to start again"},
	{names: "another's lease is given back", scenario: "mem/same", budget: budget("P1F0C1"), says: "is told twice 500"},
	{names: "never taken anew", scenario: "pg-tx/same1", budget: budget("P0F1C0"), says: "of a token that it can have"},
	{names: "uncomplete one stage", scenario: "mem/restored", budget: budget("P1F0C0"), says: "is told twice 401"},
	{names: "a group is not run again", scenario: "pg/lapse", budget: budget("P0F0C0"), says: "is told twice 500"},

	// One account for each use, and one use for each account.
	{names: "one nonce,revision not compared,refusals are looked into", scenario: "pg-tx/two", budget: budget("P1F0C1"), says: "has no spent use"},
	{names: "commit without fence", scenario: "sqlite-tx/same", budget: budget("P1F0C1"), says: "has no spent use"},
	{names: "a save without its spending", scenario: "pg-tx/same", budget: budget("P1F0C1"), says: "has no spent use"},
	{names: "the record before the use", scenario: "mem/same1", budget: budget("P2F0C0"), says: "has no spent use"},
	{names: "an error is a refusal", scenario: "mem/two", budget: budget("P0F1C0"), says: "there are 2 accounts, the tokens allow 1"},
	{names: "a refusal in doubt is believed", scenario: "mem/refused", budget: budget("P0F1C0"), says: "has no spent use"},
	{names: "decided without Resolve", scenario: "mem/refused", budget: budget("P0F1C0"), says: "has no spent use"},
	{names: "begin undoes what is in doubt", scenario: "mem/same", budget: budget("P0F2C0"), says: "has no spent use"},
	{names: "a lost stage runs", scenario: "mem/stages", budget: budget("P1F0C0"), says: "has no spent use"},
	{names: "Recover gives all back", scenario: "mem/same", budget: budget("P1F0C1"), says: "has no spent use"},
	{names: "lapsed holds are kept", scenario: "mem/lapse", budget: budget("P0F0C0"), says: "token x has 2 uses of 1"},
	{names: "renewing unpins", scenario: "mem/displace", budget: budget("P2F0C0"), says: "there are 2 accounts, the tokens allow 1"},

	// Holds stay, and are let go.
	{names: "uncomplete without release", scenario: "mem/stages", budget: budget("P0F0C0"), says: "S0 holds a use of y that it does not show"},
	{names: "the slower token stays held", scenario: "mem/tokens", budget: budget("P1F0C0"), says: "S0 holds a use of x"},
	{names: "a joint save is taken for saved", scenario: "pg/tokens", budget: budget("P2F0C0"), says: "S0 holds a use of x"},
	{names: "no rollback", scenario: "mem/letgo", budget: budget("P0F0C0"), says: "S0 leaves a use of x pinned"},
	{names: "release of another's hold", scenario: "mem/same1", budget: budget("P2F0C0"), says: "nothing went wrong"},
	{names: "firm holds are displaced", scenario: "mem/two", budget: budget("P1F0C0"), says: "was displaced"},
	{names: "an expired token ends holds", scenario: "mem/expiry", budget: budget("P0F0C1"), says: "S0 passed its stage in time"},
	{names: "a use for each request", scenario: "mem/same1", budget: budget("P1F0C0"), says: "nobody else wants the token"},

	// Only who may changes a record or a use.
	{names: "lease without compare-and-swap", scenario: "mem/refused", budget: budget("P2F0C0"), says: "two requests of S0 run as run 8"},
	{names: "SaveSession without compare-and-swap", scenario: "mem/same", budget: budget("P1F0C0"), says: "about to be recorded"},
	{names: "SaveSession creates over another", scenario: "mem/same1", budget: budget("P1F0C0"), says: "about to be recorded"},
	{names: "owner not compared", scenario: "mem/differ", budget: budget("P2F0C0"), says: "a, who wanted u, was told"},
	{names: "no look for a lost answer", scenario: "mem/same", budget: budget("P0F1C0"), says: "though only the answer was lost"},
	{names: "no look after a group", scenario: "pg/same1", budget: budget("P0F1C0"), says: "but that the answer to a save was lost"},
	{names: "Pin by a lower run", scenario: "mem/pair", budget: budget("P2F0C1"), says: "Pin in the name of run 4 has changed"},
	{names: "Unpin by any run", scenario: "mem/refused", budget: budget("P2F0C1"), says: "Unpin in the name of run 8 has changed"},
	{names: "Commit by any run", scenario: "mem/recovered", budget: budget("P2F0C1"), says: "Commit in the name of run 8 has changed"},
	{names: "Release by any run", scenario: "mem/same", budget: budget("P2F0C1"), says: "Release in the name of run 5 has changed"},
	{names: "Recover decides young pins", scenario: "mem/same", budget: budget("P1F0C0"), says: "nothing went wrong"},
	{names: "Recover keeps the run", scenario: "mem/recovered", budget: budget("P2F0C1"), says: "is not told to start again"},
	{names: "Resolve before the pin", scenario: "mem/recovered", budget: budget("P2F0C1"), says: "is not told to start again"},

	// What does no harm by itself.
	{
		names: "one nonce", without: "revision not compared", scenario: "sqlite-tx/same", budget: budget("P0F1C0"), says: "repeated, the request that was told",
		harmless: "a lost write is known by its revision too",
	},
	{
		names: "refusals are looked into", without: "one nonce,revision not compared", scenario: "pg-tx/two", budget: budget("P1F0C1"), says: "has no spent use",
		harmless: "a write that was refused is not found by its nonce and revision",
	},
	{
		names: "the early pin stays", without: "the pin outlives its lease", scenario: "mem/sweep2", budget: budget("P2F0C0"), says: "it does not end",
		harmless: "who takes the lease again forgets that something was pinned",
	},
	{
		names: "N3: a hold that another may record is released", without: "never taken anew", scenario: "mem/same1", budget: budget("P1F1C0"), says: "nobody else wants the token",
		harmless: "a run takes anew what has been lost",
	},
	{
		names: "a pin without its lease", without: "Pin of what the same run has unpinned", scenario: "pg/refused", budget: budget("P1F1C0"), says: "is not told to start again",
		harmless: "two requests that read one revision are the same run, which cannot pin what it has unpinned",
	},
}
