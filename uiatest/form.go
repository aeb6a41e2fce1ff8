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

// submit makes the request that sends a form of the last page, with text in the field
// that a person types into, and with the values of hidden fields and of the first button.
// That is the first form. If there is a secret, it is the first form that asks for a
// password, and the secret is in each field for one.
func (s *scope) submit(fill, secret string) (*message, error) {
	text, err := s.text(fill)
	if err != nil {
		return nil, err
	}
	if secret, err = s.text(secret); err != nil {
		return nil, err
	}
	if s.page == nil {
		return nil, problems("there was no page with a form")
	}
	form := formOf(string(s.page.body), secret != "")
	if form == nil {
		if tagScript.Match(s.page.body) {
			return nil, notApplicable("the page has no form, but a script: only a browser can fill it in")
		}
		return nil, problems("the page has no form")
	}
	values, typed := filled(form[2], text, secret)
	if !typed {
		return nil, problems("the page's form has no field to type into")
	}
	attrs := attributes(form[1])
	if !strings.EqualFold(attrs["method"], "post") {
		return nil, problems("the page's form is not sent with POST: what is typed would be part of an address")
	}
	path, err := target(s.page.path, attrs["action"])
	if err != nil {
		return nil, err
	}
	return &message{method: http.MethodPost, path: path, body: []byte(values.Encode()),
		header: http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}}, nil
}

// formOf returns the attributes and the content of a form on a page, after the form as a
// whole: the first one, or the first that asks for a password; nil if there is none.
func formOf(page string, password bool) []string {
	for _, form := range tagForm.FindAllStringSubmatch(page, -1) {
		if !password || asksPassword(form[2]) {
			return form
		}
	}
	return nil
}

// asksPassword reports whether a form with these fields asks for a password.
func asksPassword(fields string) bool {
	for _, tag := range tagField.FindAllStringSubmatch(fields, -1) {
		if strings.EqualFold(attributes(tag[2])["type"], "password") {
			return true
		}
	}
	return false
}

// filled returns what a form with these fields sends, with text in the field that a
// person types into, and with the secret, unless it is empty, in those for a password;
// false if there is no field for the text.
func filled(fields, text, secret string) (values url.Values, typed bool) {
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
		case kind == "password" && secret != "":
			values.Add(name, secret)
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
