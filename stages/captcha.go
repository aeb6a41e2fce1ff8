package stages

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/form"
	"github.com/matrix-uia/uia/internal/mistake"
)

// CaptchaType is the auth type of [CaptchaStage].
const CaptchaType = "m.login.recaptcha"

// CaptchaProvider says where a captcha comes from and who verifies it. The three
// that are here share one protocol, and clients know only the first.
type CaptchaProvider struct {
	VerifyURL string              // takes secret, response and remoteip
	Script    string              // what the fallback page loads
	Class     string              // of the element that the script fills
	Field     string              // the form field that the script adds
	Sources   map[string][]string // what the script needs; see form.Form
}

// The known providers.
var (
	ReCAPTCHA = CaptchaProvider{
		VerifyURL: "https://www.google.com/recaptcha/api/siteverify",
		Script:    "https://www.google.com/recaptcha/api.js",
		Class:     "g-recaptcha", Field: "g-recaptcha-response",
		Sources: map[string][]string{
			"script-src": {"https://www.google.com/recaptcha/", "https://www.gstatic.com/recaptcha/"},
			"frame-src":  {"https://www.google.com/recaptcha/", "https://recaptcha.google.com/recaptcha/"},
		},
	}
	HCaptcha = CaptchaProvider{
		VerifyURL: "https://api.hcaptcha.com/siteverify",
		Script:    "https://js.hcaptcha.com/1/api.js",
		Class:     "h-captcha", Field: "h-captcha-response",
		Sources: map[string][]string{
			"script-src":  {"https://hcaptcha.com", "https://*.hcaptcha.com"},
			"frame-src":   {"https://hcaptcha.com", "https://*.hcaptcha.com"},
			"style-src":   {"https://hcaptcha.com", "https://*.hcaptcha.com"},
			"connect-src": {"https://hcaptcha.com", "https://*.hcaptcha.com"},
		},
	}
	Turnstile = CaptchaProvider{
		VerifyURL: "https://challenges.cloudflare.com/turnstile/v0/siteverify",
		Script:    "https://challenges.cloudflare.com/turnstile/v0/api.js",
		Class:     "cf-turnstile", Field: "cf-turnstile-response",
		Sources: map[string][]string{
			"script-src": {"https://challenges.cloudflare.com"},
			"frame-src":  {"https://challenges.cloudflare.com"},
		},
	}
)

// CaptchaStage is m.login.recaptcha: it passes for a response that the provider
// says is that of a human, and fails closed. A response that the provider rejects
// is 401 M_CAPTCHA_INVALID; a provider that cannot be asked is a broken stage.
type CaptchaStage struct {
	Provider CaptchaProvider // required
	SiteKey  string          // public; required
	Secret   string          // required
	// Hostnames are where the captcha may have been solved. Empty means anywhere
	// that the provider allows for the SiteKey.
	Hostnames []string
	// HTTP asks the provider. Nil means http.DefaultClient.
	HTTP *http.Client
	// Timeout is how long the provider may take. Zero means 10 seconds.
	Timeout time.Duration
}

var (
	_ uia.ParamsStage     = (*CaptchaStage)(nil)
	_ uia.FallbackStage   = (*CaptchaStage)(nil)
	_ uia.ConfiguredStage = (*CaptchaStage)(nil)
)

// Configured reports what is required and missing.
func (c *CaptchaStage) Configured() error {
	p := c.Provider
	return errors.Join(
		mistake.Required("Provider", p.VerifyURL != "" && p.Script != "" && p.Class != "" && p.Field != ""),
		mistake.Required("SiteKey", c.SiteKey != ""),
		mistake.Required("Secret", c.Secret != ""))
}

// maxCaptcha bounds what is sent to the provider, and what is read of its answer.
const maxCaptcha = 16 << 10

// Type returns CaptchaType.
func (*CaptchaStage) Type() string { return CaptchaType }

// Params returns the public key.
func (c *CaptchaStage) Params(context.Context, *uia.Session) (json.RawMessage, error) {
	return object(map[string]any{"public_key": c.SiteKey})
}

// Attempt asks the provider.
func (c *CaptchaStage) Attempt(ctx context.Context, s *uia.Session, auth json.RawMessage) (json.RawMessage, error) {
	var response string
	if ok, err := uia.Field(auth, "response", &response); err != nil {
		return nil, err
	} else if !ok || response == "" {
		return nil, missing("response")
	}
	verdict, err := c.verify(ctx, s, response)
	switch {
	case err != nil:
		return nil, fmt.Errorf("stages: captcha provider: %w", err)
	case slices.ContainsFunc(verdict.Errors, func(code string) bool { return strings.HasSuffix(code, "-input-secret") }):
		return nil, errors.New("stages: the captcha provider does not accept CaptchaStage.Secret")
	case !verdict.Success, len(c.Hostnames) > 0 && !slices.Contains(c.Hostnames, verdict.Hostname):
		return nil, &uia.Error{
			Status:      http.StatusUnauthorized,
			MatrixError: spec.MatrixError{ErrCode: "M_CAPTCHA_INVALID", Err: "The captcha was not solved. Please try again."},
			Cause:       fmt.Errorf("captcha: %q from %q", verdict.Errors, verdict.Hostname),
		}
	}
	return nil, nil
}

type verdict struct {
	Success  bool     `json:"success"`
	Hostname string   `json:"hostname"`
	Errors   []string `json:"error-codes"`
}

func (c *CaptchaStage) verify(ctx context.Context, s *uia.Session, response string) (v verdict, err error) {
	if len(response) > maxCaptcha {
		return v, nil
	}
	timeout := c.Timeout
	if timeout <= 0 {
		timeout = 10 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	form := url.Values{"secret": {c.Secret}, "response": {response}}
	if s.Client.IsValid() {
		form.Set("remoteip", s.Client.String())
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.Provider.VerifyURL, strings.NewReader(form.Encode()))
	if err != nil {
		return v, err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	client := c.HTTP
	if client == nil {
		client = http.DefaultClient
	}
	answer, err := client.Do(r)
	if err != nil {
		return v, err
	}
	defer answer.Body.Close()
	// Some providers send their verdict on a bad response with status 400.
	if answer.StatusCode >= 500 {
		return v, fmt.Errorf("status %d", answer.StatusCode)
	}
	err = json.NewDecoder(io.LimitReader(answer.Body, maxCaptcha)).Decode(&v)
	if err == nil && !v.Success && len(v.Errors) == 0 && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d", answer.StatusCode)
	}
	return v, err
}

// Form shows the provider's captcha.
func (c *CaptchaStage) Form(context.Context, *uia.Session, form.State) (*form.Form, error) {
	return &form.Form{
		Heading: "Show that you are human",
		Widget:  &form.Widget{Script: c.Provider.Script, Class: c.Provider.Class, SiteKey: c.SiteKey},
		Sources: c.Provider.Sources,
		Submit:  "Continue",
	}, nil
}

// FormAuth takes the response that the provider's script has added to the form.
func (c *CaptchaStage) FormAuth(_ *uia.Session, values url.Values) (json.RawMessage, error) {
	response := values.Get(c.Provider.Field)
	if response == "" {
		return nil, uia.NewError(http.StatusBadRequest, spec.MissingParam("Please solve the captcha first."))
	}
	return object(map[string]any{"response": response})
}
