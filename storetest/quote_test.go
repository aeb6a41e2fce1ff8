package storetest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"regexp"
	"strings"
	"testing"
)

var spaces = regexp.MustCompile(`\s+`)

func oneLine(s string) string { return strings.TrimSpace(spaces.ReplaceAllString(s, " ")) }

// contract returns the files that say what a store promises.
func contract(t *testing.T) (files []*ast.File) {
	t.Helper()
	for _, name := range []string{"../store.go", "../store_invites.go"} {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	return files
}

// TestCasesQuoteTheContract keeps the kit from testing what nobody promised.
func TestCasesQuoteTheContract(t *testing.T) {
	var docs strings.Builder
	for _, f := range contract(t) {
		for _, c := range f.Comments {
			docs.WriteString(oneLine(c.Text()) + "\n")
		}
	}
	seen := map[string]bool{}
	kebab := regexp.MustCompile(`^[a-z]+(-[a-z]+)*$`)
	for _, c := range cases() {
		if !strings.Contains(docs.String(), c.says) {
			t.Errorf("%s: the contract does not say %q", c.name, c.says)
		}
		if seen[c.name] || !kebab.MatchString(c.name) {
			t.Errorf("%s: want a name of its own, in kebab case", c.name)
		}
		seen[c.name] = true
	}
}

// notTested holds the sentences of the interfaces' documentation that no case
// quotes, and why.
var notTested = map[string]string{
	"TokenStore keeps registration tokens and their uses.": "an introduction",
	"SessionStore keeps session records.":                  "an introduction",
	"ListTokens returns a page of tokens.":                 "an introduction",
	"A store may forget a hold a day after it has lapsed, and a session record a day after it has expired: no session lives that long.":                     "a permission",
	"A store with a bound that is full may forget holds that have lapsed, and the open records of their sessions, at any time: such a session begins anew.": "a permission",
	"It can take long.": "advice",
	"Grouper can be implemented by a SessionStore for which several small writes cost more than one larger one.":         "an introduction",
	"The engine then makes a stage's hold, the session's record and, if the operation is to run, the pins in one group.": "about the engine",
	"TxStore is a Store with transactions.": "an introduction",
	"Where the homeserver keeps its accounts in the same database, the account, the spent use and the session's response are written together or not at all, and a crash leaves no doubt.":                 "about the homeserver",
	"InviteStore can be implemented by a TokenStore that knows who has created the tokens, and so who has invited whom: the inviter of an account is the creator of the token from whose use it was made.": "an introduction",
	"A session makes one account.":                         "about the engine",
	"A store that gains nothing by a group just calls fn.": "a permission, which grouped-all-or-none makes use of",
}

// TestEverySentenceIsTested goes through what is said of the interfaces and their methods.
func TestEverySentenceIsTested(t *testing.T) {
	var decls []ast.Decl
	for _, f := range contract(t) {
		decls = append(decls, f.Decls...)
	}
	for _, d := range decls {
		d, ok := d.(*ast.GenDecl)
		if !ok || d.Tok != token.TYPE {
			continue
		}
		i, ok := d.Specs[0].(*ast.TypeSpec).Type.(*ast.InterfaceType)
		if !ok || d.Specs[0].(*ast.TypeSpec).Name.Name == "Store" {
			continue
		}
		texts := []string{d.Doc.Text()}
		for _, m := range i.Methods.List {
			texts = append(texts, m.Doc.Text())
		}
		for _, text := range texts {
			if before, after, ok := strings.Cut(text, "\n\n\t"); ok { // the diagram
				_, after, _ = strings.Cut(after, "\n\n")
				text = before + "\n" + after
			}
			for _, s := range sentences(oneLine(text)) {
				if notTested[s] == "" && !quoted(s) {
					t.Errorf("no case quotes %q", s)
				}
			}
		}
	}
}

func sentences(text string) (all []string) {
	for _, s := range regexp.MustCompile(`[^.]([^.]|\.\S)*\.(\s|$)`).FindAllString(text, -1) {
		all = append(all, strings.TrimSpace(s))
	}
	return all
}

func quoted(sentence string) bool {
	for _, c := range cases() {
		if strings.Contains(sentence, c.says) || strings.Contains(c.says, sentence) {
			return true
		}
	}
	return false
}
