package uiatest

import (
	"fmt"
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
)

var (
	tagForm   = regexp.MustCompile(`(?is)<form\b([^>]*)>(.*?)</form>`)
	tagField  = regexp.MustCompile(`(?is)<(input|button)\b([^>]*)>`)
	attribute = regexp.MustCompile(`(?s)([a-zA-Z][-a-zA-Z0-9]*)(?:\s*=\s*("[^"]*"|'[^']*'|[^\s"'>]+))?`)
)

// submit makes the request that sends the form of the last page, with text in the field
// that a person types into, and with the values of hidden fields and of the first button.
func (s *scope) submit(fill string) (*message, error) {
	text, err := s.text(fill)
	if err != nil {
		return nil, err
	}
	if s.page == nil {
		return nil, problems("there was no page with a form")
	}
	form := tagForm.FindStringSubmatch(string(s.page.body))
	if form == nil {
		if tagScript.Match(s.page.body) {
			return nil, notApplicable("the page has no form, but a script: only a browser can fill it in")
		}
		return nil, problems("the page has no form")
	}
	values, typed := filled(form[2], text)
	if !typed {
		return nil, problems("the page's form has no field to type a token into")
	}
	attrs := attributes(form[1])
	if !strings.EqualFold(attrs["method"], "post") {
		return nil, problems("the page's form is not sent with POST: the token would be part of an address")
	}
	path, err := target(s.page.path, attrs["action"])
	if err != nil {
		return nil, err
	}
	return &message{method: http.MethodPost, path: path, body: []byte(values.Encode()),
		header: http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}}, nil
}

// filled returns what a form with these fields sends, with text in the field that a
// person types into; false if there is no such field.
func filled(fields, text string) (values url.Values, typed bool) {
	values = make(url.Values)
	button := false
	for _, tag := range tagField.FindAllStringSubmatch(fields, -1) {
		field := attributes(tag[2])
		kind := strings.ToLower(field["type"])
		name := field["name"]
		if name == "" {
			continue
		}
		switch {
		case strings.EqualFold(tag[1], "button") || kind == "submit":
			if !button {
				values.Set(name, field["value"])
			}
			button = true
		case kind == "hidden":
			values.Add(name, field["value"])
		case kind == "" || kind == "text" || kind == "password" || kind == "search":
			if !typed {
				values.Set(name, text)
			}
			typed = true
		}
	}
	return values, typed
}

// target is where a form on a page is sent to. It is never another host.
func target(page, action string) (string, error) {
	base, err := url.Parse(page)
	if err != nil {
		return "", err
	}
	to, err := base.Parse(action)
	if err != nil {
		return "", problems(fmt.Sprintf("the page's form goes to %q", action))
	}
	if to.Host != "" {
		return "", problems(fmt.Sprintf("the page's form goes to another host: %q", action))
	}
	return to.RequestURI(), nil
}

func attributes(tag string) map[string]string {
	out := make(map[string]string)
	for _, a := range attribute.FindAllStringSubmatch(tag, -1) {
		out[strings.ToLower(a[1])] = html.UnescapeString(strings.Trim(a[2], `"'`))
	}
	return out
}
