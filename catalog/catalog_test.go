package catalog_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"encoding/json"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia/catalog"
)

// texts reads a catalog.
func texts(t *testing.T, file string) map[string]string {
	t.Helper()
	raw, err := os.ReadFile(file)
	require.NoError(t, err)
	var out map[string]string
	require.NoError(t, json.Unmarshal(raw, &out), file)
	return out
}

// Every language has every text, and English has those that the pages show and no others.
func TestNoTextIsMissing(t *testing.T) {
	english := texts(t, "texts/en.json")
	files, err := filepath.Glob("texts/*.json")
	require.NoError(t, err)
	require.Len(t, files, 8)
	for _, file := range files {
		for key := range texts(t, file) {
			assert.Contains(t, english, key, file)
		}
		have := texts(t, file)
		for key, text := range english {
			assert.Contains(t, have, key, file)
			if !code.MatchString(key) && key != "_name" {
				assert.Equal(t, key, text, "texts/en.json has the texts as they are in the code")
			}
		}
	}
	used := used(t)
	for key := range english {
		if key != "_name" && !code.MatchString(key) {
			assert.Contains(t, used, key, "nobody shows this text")
		}
	}
	for key, where := range used {
		assert.Contains(t, english, key, where)
	}
}

var code = regexp.MustCompile(`^M_[A-Z_]+$`)

// used returns the texts in the code of the pages and of what they show, and where they
// are.
func used(t *testing.T) map[string]string {
	found := make(map[string]string)
	files := []string{"../stage_form.go", "../stage_token.go", "../register/username.go", "../register/register.go", "../invites/page.go"}
	for _, dir := range []string{"fallback", "signup", "stages", "internal/stageform"} {
		more, err := filepath.Glob("../" + dir + "/*.go")
		require.NoError(t, err)
		files = append(files, slices.DeleteFunc(more, func(f string) bool { return strings.HasSuffix(f, "_test.go") })...)
	}
	set := token.NewFileSet()
	for _, file := range files {
		parsed, err := parser.ParseFile(set, file, nil, 0)
		require.NoError(t, err)
		ast.Inspect(parsed, func(n ast.Node) bool {
			for _, e := range shown(n) {
				if literal, ok := e.(*ast.BasicLit); ok && literal.Kind == token.STRING {
					text, err := strconv.Unquote(literal.Value)
					require.NoError(t, err)
					if !skip.MatchString(text) {
						found[text] = set.Position(literal.Pos()).String()
					}
				}
			}
			return true
		})
	}
	// What is to be authorised is shown, and the rest of these is told to clients.
	for _, file := range []string{"../restauth/guard.go", "../examples/homeserver/hs/reauth.go"} {
		source, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, m := range regexp.MustCompile(`say\("([^"]+)"`).FindAllStringSubmatch(string(source), -1) {
			found[m[1]] = file
		}
	}
	page, err := os.ReadFile("../fallback/page.html")
	require.NoError(t, err)
	for _, m := range regexp.MustCompile(`\.T "([^"]+)"`).FindAllStringSubmatch(string(page), -1) {
		found[m[1]] = "page.html"
	}
	return found
}

// skip matches what no page shows: parts of samples, error codes, and what is told to
// clients or operators alone.
var skip = regexp.MustCompile(`^.?$|^M_|^stages: |client_secret|^send_attempt|^The type of identifier|^The member|^No mail was sent|^There is no such page|^There is no homeserver`)

// members are the fields and variables that have texts, calls the functions that take them.
var (
	members = []string{"Heading", "Text", "Note", "note", "Closing", "Label", "Hint", "Submit", "Error", "Err", "ImageAlt"}
	calls   = []string{"T", "Text", "over", "refuse", "count", "enter", "errInvalidName", "Forbidden", "MissingParam", "InvalidParam", "Unknown"}
)

// shown returns the expressions of a node whose texts are shown.
func shown(n ast.Node) []ast.Expr {
	name := func(e ast.Expr) string {
		switch e := e.(type) {
		case *ast.Ident:
			return e.Name
		case *ast.SelectorExpr:
			return e.Sel.Name
		}
		return ""
	}
	switch n := n.(type) {
	case *ast.CallExpr:
		switch called := name(n.Fun); {
		case (called == "T" || called == "Text" || called == "say") && len(n.Args) > 0:
			return n.Args[:1] // the rest are values
		case slices.Contains(calls, called):
			return n.Args
		}
	case *ast.KeyValueExpr:
		if slices.Contains(members, name(n.Key)) {
			return []ast.Expr{n.Value}
		}
	case *ast.AssignStmt:
		if len(n.Lhs) == len(n.Rhs) {
			var out []ast.Expr
			for i, left := range n.Lhs {
				if slices.Contains(members, name(left)) {
					out = append(out, n.Rhs[i])
				}
			}
			return out
		}
	}
	return nil
}

func TestChoose(t *testing.T) {
	c := catalog.Default()
	for _, w := range []struct{ asked, header, want, direction string }{
		{"", "", "en", "ltr"}, {"", "*", "en", "ltr"}, {"", "tlh", "en", "ltr"}, {"", "de-AT,de;q=0.9,en;q=0.8", "de", "ltr"}, {"", "en-GB", "en", "ltr"},
		{"sv", "de", "sv", "ltr"}, {"tlh", "de", "de", "ltr"}, {"", "pt", "pt-BR", "ltr"}, {"", "pt-PT", "pt-BR", "ltr"}, {"", "zh-CN", "zh-Hans", "ltr"},
		{"", "ar-EG", "ar", "rtl"}, {"", "es-MX;q=0.5,fr-CA;q=0.7", "fr", "ltr"}, {"../../etc/passwd", "es", "es", "ltr"}, {"", "de;q=x", "en", "ltr"},
		{strings.Repeat("a-", 50000), strings.Repeat("en-", 50000), "en", "ltr"},
	} {
		l, _ := c.Choose(w.asked, w.header)
		assert.Equal(t, w.want, l.Tag(), "%.40s %.40s", w.asked, w.header)
		assert.Equal(t, w.direction, l.Direction())
	}
	_, preferred := c.Choose("fr", "de-AT;q=0.5,en")
	assert.Equal(t, []string{"fr", "en", "de-AT"}, preferred)
}

func TestHostsTexts(t *testing.T) {
	c, err := catalog.New(fstest.MapFS{
		"de.json": {Data: []byte(`{"Continue":"Los"}`)}, "nds.json": {Data: []byte(`{"_name":"Plattdüütsch","Continue":"Wieter"}`)}, "README": {},
	})
	require.NoError(t, err)
	de, _ := c.Choose("de", "")
	assert.Equal(t, "Los", de.Text("Continue"))
	assert.NotEqual(t, "Copy", de.Text("Copy"), "the rest stays")
	nds, _ := c.Choose("nds", "")
	assert.Equal(t, "Plattdüütsch", nds.Name())
	assert.Equal(t, "Wieter", nds.Text("Continue"))
	assert.Equal(t, "Copy", nds.Text("Copy"), "in English, if there is no translation")
	assert.Equal(t, "Continue", catalog.Default().Languages()[0].Text("Continue"), "others are not changed")

	for name, dir := range map[string]fs.FS{
		"no tag":           fstest.MapFS{"deutsch-oder-so.json": {Data: []byte("{}")}},
		"no JSON":          fstest.MapFS{"de.json": {Data: []byte("{")}},
		"another value":    fstest.MapFS{"de.json": {Data: []byte(`{"I accept: {name}":"Ja: {nam}"}`)}},
		"a missing one":    fstest.MapFS{"de.json": {Data: []byte(`{"I accept: {name}":"Ja"}`)}},
		"an empty one":     fstest.MapFS{"de.json": {Data: []byte(`{"Continue":""}`)}},
		"no text but more": fstest.MapFS{"de.json": {Data: []byte(`{"Continue":1}`)}},
	} {
		_, err := catalog.New(dir)
		assert.Error(t, err, name)
	}
}

// Values are what users type: they are put in as they are, and kept apart in Arabic.
func TestText(t *testing.T) {
	const english = "{inviter} has invited you to {server}."
	en, _ := catalog.Default().Choose("en", "")
	assert.Equal(t, "{server} has invited you to x.", en.Text(english, "inviter", "{server}", "server", "x"), "a value is not looked at again")
	ar, _ := catalog.Default().Choose("ar", "")
	values := []string{"inviter", "@a:b", "server", "x"}
	assert.Contains(t, ar.Text(english, values...), "\u2068@a:b\u2069")
	assert.Equal(t, []string{"inviter", "@a:b", "server", "x"}, values, "and the caller's values stay")
}
