package fallback

import (
	"encoding/base64"
	"errors"
	"fmt"
	"html/template"
	"math"
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"github.com/matrix-uia/uia/form"
)

// Look is how pages look, for operators who want them to be theirs. The zero value is
// good.
type Look struct {
	// Logo is a picture at the top of the page: a PNG, JPEG, GIF, WebP or SVG of at most
	// MaxLogo bytes, which becomes a part of the page. Nil for none.
	Logo []byte
	// Light and Dark replace colours, for browsers that want a light or a dark page.
	Light, Dark Colors
	// Links stand at the bottom of each page: to the terms of the server or to its imprint,
	// for example. Their Text may be one that the catalog has.
	Links []form.Link
}

// MaxLogo is how many bytes a [Look.Logo] can have.
const MaxLogo = 32 << 10

// Colors are colours such as "#0b6e4f". An empty one stays as it is.
type Colors struct {
	Accent   string // of buttons and links
	OnAccent string // of the text on buttons
	Ground   string // behind everything
	Card     string // behind the text
	Ink      string // of the text
}

// The colours of page.css.
var (
	lightColors = Colors{Accent: "#0b6e4f", OnAccent: "#ffffff", Ground: "#f1f3f5", Card: "#ffffff", Ink: "#17191c"}
	darkColors  = Colors{Accent: "#4cc79a", OnAccent: "#06251a", Ground: "#101317", Card: "#191d23", Ink: "#eef1f4"}
)

// properties returns the custom properties of page.css and their values.
func (c Colors) properties() [][2]string {
	return [][2]string{{"accent", c.Accent}, {"on-accent", c.OnAccent}, {"ground", c.Ground}, {"card", c.Card}, {"ink", c.Ink}}
}

// minContrast is what WCAG 2 (1.4.3) asks of text.
const minContrast = 4.5

// style returns the rules that replace the colours, and what is wrong with them: a value
// that is no colour, or a text that could not be read on its ground.
func (c Colors) style(name string, otherwise Colors) (rules string, err error) {
	var mistakes []error
	resolved := make(map[string]string)
	for i, p := range otherwise.properties() {
		set := c.properties()[i]
		resolved[p[0]] = p[1]
		if set[1] == "" {
			continue
		}
		if !hexColor.MatchString(set[1]) {
			mistakes = append(mistakes, fmt.Errorf("fallback: Options.Look.%s: %q is no colour such as #0b6e4f", name, set[1]))
			continue
		}
		resolved[p[0]] = set[1]
		rules += "--" + set[0] + ":" + set[1] + ";"
		if set[0] == "accent" {
			rules += "--accent-strong:" + set[1] + ";"
		}
	}
	for _, pair := range [][2]string{{"on-accent", "accent"}, {"accent", "card"}, {"ink", "card"}} {
		if got := contrast(resolved[pair[0]], resolved[pair[1]]); got < minContrast {
			mistakes = append(mistakes, fmt.Errorf("fallback: Options.Look.%s: %s on %s has a contrast of %.1f, and at least %.1f are needed to read it", name, pair[0], pair[1], got, minContrast))
		}
	}
	return rules, errors.Join(mistakes...)
}

var hexColor = regexp.MustCompile(`^#[0-9a-fA-F]{6}$`)

// contrast returns the contrast of two colours as WCAG 2 defines it.
func contrast(a, b string) float64 {
	la, lb := luminance(a), luminance(b)
	return (max(la, lb) + 0.05) / (min(la, lb) + 0.05)
}

func luminance(color string) float64 {
	n, _ := strconv.ParseUint(color[1:], 16, 32) // it matches hexColor
	channel := func(shift uint) float64 {
		v := float64(n>>shift&0xff) / 255
		if v <= 0.04045 {
			return v / 12.92
		}
		return math.Pow((v+0.055)/1.055, 2.4)
	}
	return 0.2126*channel(16) + 0.7152*channel(8) + 0.0722*channel(0)
}

// css returns the style sheet of the look.
func (l Look) css() (template.CSS, error) {
	light, lightErr := l.Light.style("Light", lightColors)
	dark, darkErr := l.Dark.style("Dark", darkColors)
	out := pageCSS
	if light != "" {
		out += template.CSS("@media (prefers-color-scheme:light){:root{" + light + "}}\n")
	}
	if dark != "" {
		out += template.CSS("@media (prefers-color-scheme:dark){:root{" + dark + "}}\n")
	}
	return out, errors.Join(lightErr, darkErr)
}

// logo returns the picture as a URL.
func (l Look) logo() (template.URL, error) {
	if len(l.Logo) == 0 {
		return "", nil
	}
	if len(l.Logo) > MaxLogo {
		return "", fmt.Errorf("fallback: Options.Look.Logo has %d bytes, and at most %d fit a page", len(l.Logo), MaxLogo)
	}
	typ := http.DetectContentType(l.Logo)
	if strings.HasPrefix(typ, "text/") && strings.Contains(string(l.Logo), "<svg") {
		typ = "image/svg+xml"
	}
	switch typ {
	case "image/png", "image/jpeg", "image/gif", "image/webp", "image/svg+xml":
		return dataURL(typ, l.Logo), nil
	}
	return "", fmt.Errorf("fallback: Options.Look.Logo is %s, and no PNG, JPEG, GIF, WebP or SVG", typ)
}

// dataURL returns a picture as a URL that contains it. A script in an SVG does not run in
// an img element.
func dataURL(typ string, content []byte) template.URL {
	return template.URL("data:" + typ + ";base64," + base64.StdEncoding.EncodeToString(content))
}

// PNG returns a picture for [Page.Image].
func PNG(content []byte) template.URL { return dataURL("image/png", content) }
