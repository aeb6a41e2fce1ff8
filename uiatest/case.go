package uiatest

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

//go:embed cases cases.schema.json
var data embed.FS

// Data is the cases as JSON files, in the folder cases, and cases.schema.json, the
// JSON Schema that describes them.
func Data() fs.FS { return data }

// Level says what a case stands on.
type Level string

// The levels of a case. The package documentation says what they mean.
const (
	Must   Level = "must"
	Should Level = "should"
	Client Level = "client"
)

// Case is one thing that is asked of a homeserver.
type Case struct {
	// Name is unique: the area, a slash and the name within it.
	Name string `json:"name"`
	// Area is what the case is about, such as "uia" or "validity".
	Area string `json:"area"`
	// Level is what the case stands on.
	Level Level `json:"level"`
	// Says is the sentence that the case stands on. At the level Must it is quoted.
	Says string `json:"says"`
	// Place is where the sentence is found; at the level Client, who needs it: the
	// client and the version that was seen to.
	Place string `json:"place"`
	// Needs is what the homeserver must offer for the case to apply.
	Needs []string `json:"needs,omitempty"`
	// Because says why the case is at the level Must although its sentence has no word
	// such as must or required: what makes it binding. Empty if it has one.
	Because string `json:"because,omitempty"`
	// Kills is the broken homeserver that the case finds: what is left undone, or done
	// wrong, if it fails. A test of the kit runs the case against such a homeserver.
	Kills string `json:"kills"`
	// Guesses is how many failed guesses at a token a right homeserver counts.
	Guesses int `json:"guesses,omitempty"`
	// Tokens is how many of Server.Tokens the case takes. It is zero if the case needs
	// none, or of another kind, and then it does not apply where they are all there is.
	// The tokens of accounts that cases share are not among them.
	Tokens int `json:"tokens,omitempty"`

	tokens   map[string]tokenDecl
	accounts map[string]accountDecl
	steps    []step
}

// file is one of the data files.
type file struct {
	Schema    string                 `json:"$schema"`
	Area      string                 `json:"area"`
	Needs     []string               `json:"needs"`
	Cases     []caseData             `json:"cases"`
	Sequences map[string][]step      `json:"sequences"`
	Features  map[string]probe       `json:"features"`
	Accounts  map[string]accountKind `json:"accounts"`
}

// probe finds out whether the homeserver offers a feature: it does if every answer
// is as expected.
type probe struct {
	Says     string                 `json:"says"`
	Tokens   map[string]tokenDecl   `json:"tokens"`
	Accounts map[string]accountDecl `json:"accounts"`
	Steps    []step                 `json:"steps"`
}

type caseData struct {
	Name     string                 `json:"name"`
	Level    Level                  `json:"level"`
	Says     string                 `json:"says"`
	Place    string                 `json:"place"`
	Because  string                 `json:"because"`
	Kills    string                 `json:"kills"`
	Needs    []string               `json:"needs"`
	Guesses  int                    `json:"guesses"`
	Tokens   map[string]tokenDecl   `json:"tokens"`
	Accounts map[string]accountDecl `json:"accounts"`
	Rows     []map[string]any       `json:"rows"`
	Steps    []step                 `json:"steps"`
}

// tokenDecl is a token that a case wants made for it.
type tokenDecl struct {
	Uses      *int64 `json:"uses"` // absent: 1
	Unlimited bool   `json:"unlimited"`
	Expired   bool   `json:"expired"`
	Value     string `json:"value"` // absent: any
}

// plain reports whether any token of one use will do.
func (t *tokenDecl) plain() bool {
	return !t.Unlimited && !t.Expired && t.Value == "" && (t.Uses == nil || *t.Uses == 1)
}

// step is one request and what is expected of its answer, or one of the other
// kinds: use, set, race, wait, registered.
type step struct {
	Use  string         `json:"use"`
	With map[string]any `json:"with"`
	When string         `json:"when"`
	Set  map[string]any `json:"set"`
	Race *race          `json:"race"`
	Wait int            `json:"wait"` // seconds

	Registered string `json:"registered"`

	Request string            `json:"request"`
	Bearer  string            `json:"bearer"`
	Headers map[string]string `json:"headers"`
	JSON    any               `json:"json"`
	Body    string            `json:"body"`
	Base64  string            `json:"base64"`
	Form    map[string]string `json:"form"`
	Fill    string            `json:"fill"`
	Secret  string            `json:"secret"`
	Until   *until            `json:"until"`
	Expect  *expect           `json:"expect"`
	Given   string            `json:"given"`
	Save    map[string]string `json:"save"`
}

// until repeats a guess until it is answered with status 429.
type until struct {
	Way   string `json:"way"`
	Shape bool   `json:"shape"`
}

// race has several contestants take the same steps side by side.
type race struct {
	Contestants int               `json:"contestants"`
	Steps       []step            `json:"steps"`
	Most        int               `json:"most"`
	Least       int               `json:"least"`
	Others      statuses          `json:"others"`
	Same        []string          `json:"same"`
	Distinct    []string          `json:"distinct"`
	Save        map[string]string `json:"save"`
}

// features is what a case can need. A file's or case's needs are among them.
var features = []string{
	"register", "account", "token", "T", "TD", "validity", "available", "fallback", "whoami", "login", "versions", "devices",
	"admin", "server_version", "closed",
	"guests", "refresh", "appservice", "terms", "email", "cross-signing", "device-names", "session", "token-stage", "patience", "signup",
}

// Areas returns the areas in the order in which they are run.
func Areas() []string {
	return []string{"offers", "uia", "token", "validity", "register", "kinds", "available", "fallback", "signup", "devices", "admin", "races", "input", "closed", "limits"}
}

var load = sync.OnceValues(func() (*suite, error) { return parse(data) })

// suite is the parsed data files.
type suite struct {
	cases     []Case
	sequences map[string][]step
	probes    map[string]probe
	accounts  map[string]accountKind
}

// Cases returns every case, area by area, in the order of the files.
func Cases() []Case {
	s, err := load()
	if err != nil {
		panic(err) // the files are embedded, and a test parses them
	}
	return slices.Clone(s.cases)
}

func parse(fsys fs.FS) (*suite, error) {
	s := &suite{sequences: make(map[string][]step), probes: make(map[string]probe), accounts: make(map[string]accountKind)}
	names, err := fs.Glob(fsys, "cases/*.json")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		raw, err := fs.ReadFile(fsys, name)
		if err != nil {
			return nil, err
		}
		var f file
		decoder := json.NewDecoder(bytes.NewReader(raw))
		decoder.DisallowUnknownFields()
		decoder.UseNumber()
		if err := decoder.Decode(&f); err != nil {
			return nil, fmt.Errorf("uiatest: %s: %w", name, err)
		}
		maps.Copy(s.sequences, f.Sequences)
		maps.Copy(s.probes, f.Features)
		maps.Copy(s.accounts, f.Accounts)
		if f.Area != strings.TrimSuffix(path.Base(name), ".json") && f.Area != "" {
			return nil, fmt.Errorf("uiatest: %s: the area is called %q", name, f.Area)
		}
		for _, c := range f.Cases {
			s.cases = append(s.cases, c.expand(f)...)
		}
	}
	order := Areas()
	slices.SortStableFunc(s.cases, func(a, b Case) int { return slices.Index(order, a.Area) - slices.Index(order, b.Area) })
	return s, nil
}

// expand makes the case, or one for each of its rows.
func (c caseData) expand(f file) []Case {
	base := Case{
		Name: f.Area + "/" + c.Name, Area: f.Area, Level: c.Level, Says: c.Says, Place: c.Place, Because: c.Because, Kills: c.Kills,
		Needs: slices.Concat(f.Needs, c.Needs), Guesses: c.Guesses, tokens: c.Tokens, accounts: c.Accounts, steps: c.Steps,
	}
	if len(c.Tokens) > 0 || len(c.Accounts) > 0 {
		base.Needs = append(base.Needs, "account")
		if c.aboutTokens() {
			base.Needs = append(base.Needs, "token")
		}
	}
	if savesSession(c.Steps) || len(c.Accounts) > 0 {
		base.Needs = append(base.Needs, "session")
	}
	base.Tokens = len(c.Tokens)
	for _, t := range c.Tokens {
		if !t.plain() {
			base.Tokens = 0
		}
	}
	slices.Sort(base.Needs)
	base.Needs = slices.Compact(base.Needs)
	if c.Rows == nil {
		return []Case{base}
	}
	var out []Case
	for _, row := range c.Rows {
		one := base
		name, _ := row["name"].(string)
		one.Name += "/" + name
		one.steps = slices.Concat([]step{{Set: row}}, c.Steps)
		out = append(out, one)
	}
	return out
}

// savesSession reports whether some of the steps go on in a session. The sequences
// all do.
func savesSession(steps []step) bool {
	return slices.ContainsFunc(steps, func(st step) bool {
		return st.Use != "" || st.Save["session"] != "" || st.Race != nil && savesSession(st.Race.Steps)
	})
}

// accountToken is the token with which an account was made.
var accountToken = regexp.MustCompile(`\$\{account\.\w+\.token\b`)

// aboutTokens reports whether the case does more with its tokens than to have a sequence
// make an account with each, or depends on the flow and has no steps for the one without
// tokens. If it does not, it applies where
// accounts are made without tokens as well.
func (c *caseData) aboutTokens() bool {
	rest, with := "", ""
	without := slices.ContainsFunc(c.Steps, func(st step) bool { return st.When == "D" })
	for _, st := range c.Steps {
		switch {
		case st.When == "D" || st.When != "" && without:
			continue
		case st.When != "":
			return true
		}
		with += string(encode(st.With))
		st.With = nil
		rest += string(encode(st)) // with what stands in a race: a token that some race for
	}
	for name, t := range c.Tokens {
		if !t.plain() || strings.Count(with, "${token."+name+"}") != 1 {
			return true
		}
	}
	return accountToken.MatchString(rest+with) || strings.Contains(rest, "${token") || strings.Contains(rest, "${guess") || strings.Contains(rest, typeToken)
}

// waits returns how long the case waits.
func (c *Case) waits() (d time.Duration) {
	for _, st := range c.steps {
		d += time.Duration(st.Wait) * time.Second
	}
	return d
}

// needs reports whether the case needs a feature.
func (c *Case) needs(feature string) bool { return slices.Contains(c.Needs, feature) }
