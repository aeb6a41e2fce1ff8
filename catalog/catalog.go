// Package catalog has the texts of the pages in several languages. A text is known by its
// English wording, as in gettext: a text that no catalog has is shown in English.
package catalog

import (
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"

	"golang.org/x/text/language"

	"github.com/matrix-uia/uia/form"
)

// embedded has the catalogs of this package: a JSON file for each language, named by its
// BCP 47 tag. Each is an object of English texts and their translations. The member
// "_name" is what speakers of the language call it. Members that are error codes
// ("M_USER_IN_USE") say what an error means whose own text has no translation.
//
//go:embed texts/*.json
var embedded embed.FS

// nameKey is the member of a catalog that names the language in the language itself.
const nameKey = "_name"

// Catalog is a choice of languages. It is safe for concurrent use.
type Catalog struct {
	languages []*Language // English first: what is taken if no other suits
	matcher   language.Matcher
}

// Default returns the catalog of this package: English, German, French, Spanish, Brazilian
// Portuguese, Swedish, simplified Chinese and Arabic.
var Default = sync.OnceValue(func() *Catalog {
	c, err := New(nil)
	if err != nil {
		panic(err) // a test looks at these files
	}
	return c
})

// New returns the catalog of this package with the texts of the host's own on top: of each
// file of a name such as de.json in the root of more. What such a file has replaces what is
// here, text by text; other languages are added. Nil adds nothing. The error names every
// file and text that is wrong: a translation has to have the placeholders of its English
// text.
func New(more fs.FS) (*Catalog, error) {
	own, err := fs.Sub(embedded, "texts")
	if err != nil {
		return nil, err
	}
	found := make(map[language.Tag]*Language)
	mistakes := read(found, own)
	if more != nil {
		mistakes = append(mistakes, read(found, more)...)
	}
	if err := errors.Join(mistakes...); err != nil {
		return nil, err
	}
	c := &Catalog{}
	for _, tag := range slices.SortedFunc(maps.Keys(found), byTag) {
		c.languages = append(c.languages, found[tag])
	}
	tags := make([]language.Tag, len(c.languages))
	for i, l := range c.languages {
		tags[i] = l.tag
	}
	c.matcher = language.NewMatcher(tags)
	return c, nil
}

// byTag puts English first.
func byTag(a, b language.Tag) int {
	switch {
	case a == b:
		return 0
	case a == language.English:
		return -1
	case b == language.English:
		return 1
	}
	return strings.Compare(a.String(), b.String())
}

// read adds the files of dir to found.
func read(found map[language.Tag]*Language, dir fs.FS) (mistakes []error) {
	names, err := fs.Glob(dir, "*.json")
	if err != nil {
		return []error{err}
	}
	for _, name := range names {
		wrong := func(err error) { mistakes = append(mistakes, fmt.Errorf("catalog: %s: %w", name, err)) }
		tag, err := language.Parse(strings.TrimSuffix(path.Base(name), ".json"))
		if err != nil {
			wrong(err)
			continue
		}
		raw, err := fs.ReadFile(dir, name)
		if err != nil {
			wrong(err)
			continue
		}
		var texts map[string]string
		if err := json.Unmarshal(raw, &texts); err != nil {
			wrong(err)
			continue
		}
		l := found[tag]
		if l == nil {
			l = &Language{tag: tag, texts: make(map[string]string, len(texts))}
			found[tag] = l
		}
		for _, english := range slices.Sorted(maps.Keys(texts)) {
			translation := texts[english]
			switch {
			case translation == "":
				wrong(fmt.Errorf("%q is empty", english))
			case english != nameKey && !slices.Equal(Placeholders(english), Placeholders(translation)):
				wrong(fmt.Errorf("%q: its placeholders are %q, and must be %q", english, Placeholders(translation), Placeholders(english)))
			}
			l.texts[english] = translation
		}
		if l.texts[nameKey] == "" {
			l.texts[nameKey] = tag.String()
		}
	}
	return mistakes
}

var placeholder = regexp.MustCompile(`\{[a-z]+\}`)

// Placeholders returns the placeholders of a text, sorted, each once.
func Placeholders(text string) []string {
	found := placeholder.FindAllString(text, -1)
	slices.Sort(found)
	return slices.Compact(found)
}

// Languages returns the languages, English first. The slice must not be changed.
func (c *Catalog) Languages() []*Language { return c.languages }

// maxHeader bounds how much of a stranger's list of languages is looked at, in bytes.
const maxHeader = 512

// Choose returns the language for somebody who asks for this one ("pt-BR"; "" if they ask
// for none) and whose browser sends this Accept-Language, and their languages, most
// preferred first.
func (c *Catalog) Choose(asked, acceptLanguage string) (chosen *Language, preferred []string) {
	var tags []language.Tag
	if tag, err := language.Parse(asked); err == nil && asked != "" && len(asked) < maxHeader {
		tags = append(tags, tag)
	}
	if len(acceptLanguage) <= maxHeader {
		accepted, _, err := language.ParseAcceptLanguage(acceptLanguage)
		if err == nil {
			tags = append(tags, accepted...)
		}
	}
	for _, tag := range tags {
		preferred = append(preferred, tag.String())
	}
	_, index, confidence := c.matcher.Match(tags...)
	if confidence == language.No {
		index = 0
	}
	return c.languages[index], preferred
}

// Language is one language of a catalog.
type Language struct {
	tag   language.Tag
	texts map[string]string
}

// Tag returns the BCP 47 tag of the language, as the attribute lang has it.
func (l *Language) Tag() string { return l.tag.String() }

// Name returns what speakers of the language call it.
func (l *Language) Name() string { return l.texts[nameKey] }

// Direction returns the direction in which the language is written: "ltr" or "rtl".
func (l *Language) Direction() string {
	switch script, _ := l.tag.Script(); script.String() {
	case "Arab", "Hebr", "Syrc", "Thaa", "Nkoo", "Adlm", "Rohg":
		return "rtl"
	}
	return "ltr"
}

// Has reports whether the language has a translation of this English text.
func (l *Language) Has(english string) bool { return l.texts[english] != "" }

// Text returns the text in this language, with its placeholders filled as [form.Fill]
// does: in English if there is no translation. In a language that is written from right to
// left the values are isolated, so that a user ID in a sentence is not turned around.
func (l *Language) Text(english string, values ...string) string {
	text, ok := l.texts[english]
	if !ok {
		text = english
	}
	if len(values) > 0 && l.Direction() == "rtl" {
		values = slices.Clone(values)
		for i := 1; i < len(values); i += 2 {
			values[i] = "\u2068" + values[i] + "\u2069"
		}
	}
	return form.Fill(text, values...)
}

// English reports whether this is English, in which messages of errors are.
func (l *Language) English() bool {
	base, _ := l.tag.Base()
	english, _ := language.English.Base()
	return base == english
}
