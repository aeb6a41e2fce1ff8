package fallback

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/matrix-uia/uia/form"
	"github.com/matrix-uia/uia/internal/wire"
)

// pages writes pages with the headers that keep them safe.
type pages struct {
	template        *template.Template
	title           string
	style           template.CSS
	logo            template.URL
	links           []form.Link
	styles, scripts []string // sources for the policy: hashes
}

func newPages(o Options) (*pages, error) {
	p := &pages{template: o.Template, title: o.Title, links: o.Look.Links}
	if p.title == "" {
		p.title = "Matrix account"
	}
	if p.template == nil {
		p.template = template.Must(template.New("fallback").Parse(pageHTML))
	}
	var styleErr, logoErr error
	p.style, styleErr = o.Look.css()
	p.logo, logoErr = o.Look.logo()
	var mistakes []error
	if err := errors.Join(styleErr, logoErr); err != nil {
		mistakes = append(mistakes, err)
	}
	for _, target := range o.Redirects {
		if u, err := url.Parse(target); err != nil || !u.IsAbs() || slices.Contains([]string{"javascript", "data", "vbscript", "blob", "file"}, u.Scheme) {
			mistakes = append(mistakes, fmt.Errorf("fallback: Options.Redirects: %q is not an absolute URL to lead to", target))
		}
	}
	// The template is executed with these sample pages. Their scripts and styles were
	// written by the author of the template, and may run. What gets into a page later is
	// not in the policy.
	sample := form.Form{Heading: "h", Text: "t", Submit: "s", Link: &form.Link{}, Fields: []form.Field{{Name: "n", Label: "l"}}}
	finished := &Page{Redirect: "x:", Action: "a"}
	finished.done()
	asking := &Page{Action: "a", Error: "e", Facts: []Fact{{Label: "l", Value: "v", Button: &Button{Text: "b"}}}}
	asking.ask(sample, nil)
	for _, page := range []*Page{asking, finished, {Heading: "h", Error: "e"}} {
		out, err := p.render(page)
		if err != nil {
			mistakes = append(mistakes, fmt.Errorf("fallback: Options.Template: %w", err))
			break
		}
		p.styles = append(p.styles, hashes(out, styleElement)...)
		p.scripts = append(p.scripts, hashes(out, scriptElement)...)
		if page.Done && !slices.Contains(p.scripts, hash([]byte(pageScript))) {
			mistakes = append(mistakes, errors.New("fallback: Options.Template: a page that is Done has no <script>{{.Script}}</script>: clients would wait for ever"))
		}
	}
	slices.Sort(p.styles)
	slices.Sort(p.scripts)
	p.styles, p.scripts = slices.Compact(p.styles), slices.Compact(p.scripts)
	return p, errors.Join(mistakes...)
}

var (
	styleElement  = regexp.MustCompile(`(?is)<style[^>]*>(.*?)</style>`)
	scriptElement = regexp.MustCompile(`(?is)<script[^>]*>(.*?)</script>`)
)

func hashes(page []byte, element *regexp.Regexp) (out []string) {
	for _, m := range element.FindAllSubmatch(page, -1) {
		if len(m[1]) > 0 {
			out = append(out, hash(m[1]))
		}
	}
	return out
}

func hash(content []byte) string {
	sum := sha256.Sum256(content)
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

func (p *pages) render(page *Page) ([]byte, error) {
	page.Title, page.Style, page.Script, page.Help = p.title, p.style, pageScript, pageJS
	page.Logo, page.Links = p.logo, p.links
	var out bytes.Buffer
	if err := p.template.Execute(&out, page); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// write writes the page, or nothing if there is an error.
func (p *pages) write(w http.ResponseWriter, status int, page *Page) error {
	out, err := p.render(page)
	if err != nil {
		return fmt.Errorf("fallback: %w", err)
	}
	h := w.Header()
	wire.SetCORS(h)
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", p.policy(page))
	h.Set("X-Frame-Options", "DENY")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer") // the address has the session in it
	h.Set("Cache-Control", "no-store")
	// No Cross-Origin-Opener-Policy: it would cut the page off from the client that
	// has opened it.
	w.WriteHeader(status)
	_, _ = w.Write(out) // a browser that has gone needs no page
	return nil
}

// policy returns the Content-Security-Policy of a page.
func (p *pages) policy(page *Page) string {
	sources := map[string][]string{"style-src": p.styles, "script-src": p.scripts}
	if page.Logo != "" || page.Image != "" {
		sources["img-src"] = []string{"data:"}
	}
	if shown := page.Form; shown != nil {
		if slices.ContainsFunc(shown.Fields, func(f form.Field) bool { return f.Check != "" }) {
			sources["connect-src"] = []string{"'self'"}
		}
		for _, directive := range []string{"script-src", "style-src", "frame-src", "connect-src", "img-src"} {
			for _, source := range shown.Sources[directive] {
				if sourceExpression.MatchString(source) {
					sources[directive] = append(slices.Clip(sources[directive]), source)
				}
			}
		}
	}
	var out strings.Builder
	out.WriteString("default-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'")
	for _, directive := range []string{"script-src", "style-src", "frame-src", "connect-src", "img-src"} {
		if len(sources[directive]) > 0 {
			out.WriteString("; " + directive + " " + strings.Join(sources[directive], " "))
		}
	}
	return out.String()
}

// sourceExpression matches an origin, perhaps with a wildcard host and a path: no
// keyword, and nothing that ends a directive.
var sourceExpression = regexp.MustCompile(`^https?://[A-Za-z0-9.*:\[\]-]+(/[A-Za-z0-9._~/-]*)?$`)

// redirectURL marks one of Options.Redirects as safe to link to: its scheme
// may be one that templates do not know.
func redirectURL(target string) template.URL { return template.URL(target) }
