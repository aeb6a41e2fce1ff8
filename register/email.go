package register

import (
	"encoding/json"
	"net/mail"
	"slices"
	"strings"

	"github.com/matrix-uia/uia"
)

// emailType is the auth type of the stage that confirms an e-mail address. Its result
// has the member address.
const emailType = "m.login.email.identity"

// maxAddress is how long an e-mail address can be, in bytes (RFC 5321, 4.5.3.1.3).
const maxAddress = 254

// CanonicalAddress returns an e-mail address in the form in which addresses are compared:
// without white space around it and in lower case, the part before the @ as well as the
// domain, as the specification wants third-party identifiers folded. Nothing else is
// taken for equal: neither a domain in Unicode and its ASCII form, nor an address with
// and without a +tag. It returns false for what is no address alone.
func CanonicalAddress(typed string) (string, bool) {
	address := strings.ToLower(strings.TrimSpace(typed))
	parsed, err := mail.ParseAddress(address)
	if err != nil || parsed.Address != address || len(address) > maxAddress || strings.ContainsFunc(address, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return "", false
	}
	return address, true
}

// AdmitEmail refuses an e-mail address that the session's registration token is not for,
// with 409 M_FORBIDDEN. The answer does not say for which address the token is. A stage
// that confirms addresses asks before it sends a mail. Before the token stage is completed
// AdmitEmail refuses nothing, and neither does it if the session is nil.
func AdmitEmail(s *uia.Session, address string) error {
	pin, _, err := pinOf(s)
	if err != nil || pin.Email == "" {
		return err
	}
	if canonical, ok := CanonicalAddress(address); !ok || canonical != pin.Email {
		return errPinned("is for another e-mail address")
	}
	return nil
}

// confirmed returns the e-mail address that the session has confirmed; "" if none.
func confirmed(s *uia.Session) string {
	var result struct {
		Address string `json:"address"`
	}
	if json.Unmarshal(s.Result(emailType), &result) != nil {
		return ""
	}
	return result.Address
}

// admitEmail refuses an e-mail address that was confirmed, and that the token is not for.
func admitEmail(s *uia.Session) error {
	if address := confirmed(s); address != "" {
		return AdmitEmail(s, address)
	}
	return nil
}

// wantEmail refuses to make an account unless the session has confirmed the address that
// its token is for.
func wantEmail(s *uia.Session) error {
	pin, _, err := pinOf(s)
	switch {
	case err != nil || pin.Email == "":
		return err
	case confirmed(s) == "":
		return errPinned("is for an e-mail address, which has to be confirmed")
	}
	return admitEmail(s)
}

// asksForEmail reports whether an e-mail address can be confirmed on the way to an
// account.
func (reg *Registration) asksForEmail() bool {
	return slices.ContainsFunc(reg.Flows, func(f uia.Flow) bool { return slices.Contains(f, emailType) })
}
