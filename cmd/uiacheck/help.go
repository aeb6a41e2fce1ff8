package main

import (
	_ "embed"
	"flag"
	"fmt"
	"strings"

	"github.com/matrix-uia/uia/uiatest"
)

//go:embed help.txt
var helpText string

// help describes the command.
func help(fs *flag.FlagSet) {
	cases := uiatest.Cases()
	fmt.Fprint(fs.Output(), strings.NewReplacer(
		"{cases}", fmt.Sprint(len(cases)),
		"{accounts}", fmt.Sprint(uiatest.Accounts),
		"{tokens}", fmt.Sprint(uiatest.TokensFor(cases)),
		"{guesses}", fmt.Sprint(uiatest.MaxGuesses),
	).Replace(helpText))
	fs.PrintDefaults()
}
