package stages

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/form"
	"github.com/matrix-uia/uia/internal/seal"
)

// TermsType is the auth type of [TermsStage].
const TermsType = "m.login.terms"

// Policy is one document that users have to accept, in one version.
type Policy struct {
	ID      string // for example "terms_of_service"
	Version string // for example "1.2"
	// Texts are the translations, by language code: "en", "fr-CA".
	Texts map[string]PolicyText
}

// PolicyText is one translation of a Policy.
type PolicyText struct {
	Name string `json:"name"`
	URL  string `json:"url"`
}

// TermsStage is m.login.terms: it passes when the client says that the user
// accepts the policies. Its result is a [TermsResult].
type TermsStage struct {
	policies []Policy // the current versions first
	current  string   // as Opening returns it
}

var (
	_ uia.ParamsStage     = (*TermsStage)(nil)
	_ uia.ConfiguredStage = (*TermsStage)(nil)
	_ uia.OpeningStage    = (*TermsStage)(nil)
	_ uia.FreeStage       = (*TermsStage)(nil)
	_ uia.FallbackStage   = (*TermsStage)(nil)
)

// TermsResult is what a passed TermsStage leaves in the session.
type TermsResult struct {
	// Accepted has the accepted version of each policy, by its ID: the version with which
	// the session was opened, and which the user has seen.
	Accepted map[string]string `json:"accepted"`
}

// TermsOf returns what the session's terms stage left, and false if it is not completed.
func TermsOf(s *uia.Session) (TermsResult, bool) { return resultOf[TermsResult](s, TermsType) }

// Configured reports a TermsStage that NewTermsStage has not made.
func (t *TermsStage) Configured() error {
	if len(t.policies) == 0 {
		return errors.New("there are no policies: use NewTermsStage")
	}
	return nil
}

// NewTermsStage returns a stage for the policies, or everything that is wrong with them.
// If an ID occurs several times, the first one is the current version. The others are for
// sessions that were opened while those versions were current: without them such sessions
// can still accept the policies, but the fallback page asks their users to start again.
func NewTermsStage(policies ...Policy) (*TermsStage, error) {
	var mistakes []error
	var opening []string
	for i, p := range policies {
		mistakes = append(mistakes, p.mistakes(i)...)
		earlier := policies[:i]
		switch {
		case slices.ContainsFunc(earlier, p.sameVersion):
			mistakes = append(mistakes, fmt.Errorf("stages: policy %s has the version %s twice", p.ID, p.Version))
		case !slices.ContainsFunc(earlier, p.sameID):
			opening = append(opening, p.ID+"="+p.Version)
		}
	}
	if len(policies) == 0 {
		mistakes = append(mistakes, errors.New("stages: there are no policies"))
	}
	current := strings.Join(opening, "\n")
	if len(current) > seal.MaxOpening {
		mistakes = append(mistakes, fmt.Errorf("stages: IDs and versions of the policies together exceed %d bytes", seal.MaxOpening))
	}
	if len(mistakes) > 0 {
		return nil, errors.Join(mistakes...)
	}
	return &TermsStage{policies: policies, current: current}, nil
}

func (p Policy) sameID(q Policy) bool { return q.ID == p.ID }

func (p Policy) sameVersion(q Policy) bool { return q.ID == p.ID && q.Version == p.Version }

// mistakes returns what is wrong with the i-th policy by itself.
func (p Policy) mistakes(i int) (out []error) {
	if p.ID == "" || p.Version == "" || strings.ContainsAny(p.ID+p.Version, "\n=") {
		out = append(out, fmt.Errorf("stages: policy %d: it needs an ID and a version, without line breaks and equals signs", i))
	}
	if len(p.Texts) == 0 {
		out = append(out, fmt.Errorf("stages: policy %s: it has no texts", p.ID))
	}
	for _, lang := range slices.Sorted(maps.Keys(p.Texts)) {
		text := p.Texts[lang]
		u, err := url.Parse(text.URL)
		if lang == "" || lang == "version" || text.Name == "" || err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
			out = append(out, fmt.Errorf("stages: policy %s, language %q: it needs a language code, a name and an absolute http(s) URL", p.ID, lang))
		}
	}
	return out
}

// Type returns TermsType.
func (*TermsStage) Type() string { return TermsType }

// Free implements uia.FreeStage: a client passes by saying that its user accepts.
func (*TermsStage) Free() {}

// Opening remembers the versions that are current when a session is opened.
func (t *TermsStage) Opening(context.Context, *uia.Session) (string, error) { return t.current, nil }

// shown returns the policies of the session by ID and version.
func (t *TermsStage) shown(s *uia.Session) [][2]string {
	opening := s.Opening(TermsType)
	if opening == "" { // the session is older than the stage
		opening = t.current
	}
	var out [][2]string
	for line := range strings.SplitSeq(opening, "\n") {
		id, version, _ := strings.Cut(line, "=")
		out = append(out, [2]string{id, version})
	}
	return out
}

// texts returns the translations of one version of a policy; nil if it is not
// known any more.
func (t *TermsStage) texts(id, version string) map[string]PolicyText {
	for _, p := range t.policies {
		if p.ID == id && p.Version == version {
			return p.Texts
		}
	}
	return nil
}

// Params returns the policies that the session is about.
func (t *TermsStage) Params(_ context.Context, s *uia.Session) (json.RawMessage, error) {
	policies := make(map[string]map[string]any)
	for _, p := range t.shown(s) {
		policy := map[string]any{"version": p[1]}
		for lang, text := range t.texts(p[0], p[1]) {
			policy[lang] = text
		}
		if len(policy) > 1 {
			policies[p[0]] = policy
		}
	}
	return json.Marshal(map[string]any{"policies": policies})
}

// Attempt passes: the client accepts the policies by attempting the stage.
func (t *TermsStage) Attempt(_ context.Context, s *uia.Session, _ json.RawMessage) (json.RawMessage, error) {
	r := TermsResult{Accepted: make(map[string]string)}
	for _, p := range t.shown(s) {
		r.Accepted[p[0]] = p[1]
	}
	return json.Marshal(r)
}

// Form shows the policies in the user's language, each with a box to tick.
func (t *TermsStage) Form(_ context.Context, s *uia.Session, state form.State) (*form.Form, error) {
	asked := &form.Form{
		Heading: "Accept the terms",
		Text:    "This server asks you to read and accept the following.",
		Submit:  "Accept and continue",
	}
	for _, p := range t.shown(s) {
		texts := t.texts(p[0], p[1])
		if texts == nil {
			return nil, uia.NewError(http.StatusBadRequest, spec.Unknown("The terms have changed. Please go back to your app and start again."))
		}
		lang := pick(texts, state.Languages)
		text := texts[lang]
		asked.Fields = append(asked.Fields, form.Field{
			Name: p[0], Type: "checkbox", Label: state.Text("I accept: {name}", "name", text.Name),
			Links: []form.Link{{Text: text.Name, URL: text.URL, Lang: lang}}, Hint: state.Text("(version {version})", "version", p[1]),
		})
	}
	return asked, nil
}

// FormAuth wants every box ticked.
func (t *TermsStage) FormAuth(s *uia.Session, values url.Values) (json.RawMessage, error) {
	for _, p := range t.shown(s) {
		if values.Get(p[0]) == "" {
			return nil, uia.NewError(http.StatusBadRequest, spec.MissingParam("To go on you have to accept all of them."))
		}
	}
	return object(nil)
}

// pick returns the language of texts that suits best: one that the user prefers,
// or else English, or else the first in the alphabet.
func pick(texts map[string]PolicyText, preferred []string) string {
	have := make([]string, 0, len(texts))
	for lang := range texts {
		have = append(have, lang)
	}
	slices.Sort(have)
	for _, want := range append(slices.Clone(preferred), "en") {
		for range 2 {
			for _, lang := range have {
				if strings.EqualFold(lang, want) {
					return lang
				}
			}
			want, _, _ = strings.Cut(want, "-")
		}
	}
	return have[0]
}
