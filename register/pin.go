package register

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia"
)

// Pin is the username, the e-mail address or both that a registration token is for. It
// stands in the token's Meta, next to whatever else the homeserver keeps there:
//
//	{"username": "alice"}             exactly this localpart
//	{"username_pattern": "student-*"} any localpart that matches
//	{"email": "alice@example.org"}    whoever reads the mails to this address
//
// In a pattern * stands for any number of characters, also none, and ? for one;
// everything else stands for itself, and the whole localpart has to match. So nobody can
// forget to anchor a pattern, and matching never takes long.
//
// Capital letters in a name or a pattern stand for lower case ones, because localparts
// are in lower case.
//
// Registration refuses another username with 409 M_FORBIDDEN: before the remaining
// stages once the token stage is completed, and again before the account is made. A
// client that asks for no username gets the pinned one; with a pattern it has to ask.
// A pinned name has to be one that a client could ask for: see Registration.CheckMeta.
//
// A pinned address has to be confirmed by the stage m.login.email.identity. Another one is
// refused with 409 M_FORBIDDEN at the first leg that brings it, before a mail is sent to it;
// if it was confirmed before the token came, at the token's leg. Addresses are compared as
// [CanonicalAddress] returns them. A session that has confirmed none makes no account.
type Pin struct {
	Username string // "" if any is good
	Pattern  string // "" if there is none
	Email    string // in the form of CanonicalAddress; "" if any is good, or none
}

// ReadPin reads the pin of a token's Meta: the zero Pin if it has none. The error says
// what is wrong with it, and is meant for the administrator who makes the token.
func ReadPin(meta json.RawMessage) (Pin, error) {
	if len(meta) == 0 {
		return Pin{}, nil
	}
	var p Pin
	hasName, err := uia.Field(meta, "username", &p.Username)
	if err != nil {
		return Pin{}, errors.New("username is not a string")
	}
	hasPattern, err := uia.Field(meta, "username_pattern", &p.Pattern)
	if err != nil {
		return Pin{}, errors.New("username_pattern is not a string")
	}
	hasEmail, err := uia.Field(meta, "email", &p.Email)
	address, isAddress := CanonicalAddress(p.Email)
	p.Email, p.Username, p.Pattern = address, CanonicalLocalpart(p.Username), CanonicalLocalpart(p.Pattern)
	switch {
	case err != nil:
		return Pin{}, errors.New("email is not a string")
	case hasEmail && !isAddress:
		return Pin{}, errors.New("email is no e-mail address")
	case hasName && hasPattern:
		return Pin{}, errors.New("username and username_pattern exclude each other")
	case hasName && (p.Username == "" || !localpart(p.Username, "")):
		return Pin{}, errors.New("username is no localpart of a user ID: " + grammar)
	case hasPattern && (p.Pattern == "" || !localpart(p.Pattern, "*?")):
		return Pin{}, errors.New("username_pattern consists of * and ? and of what usernames do: " + grammar)
	}
	return p, nil
}

// Allows reports whether an account of this localpart can be made.
func (p Pin) Allows(localpart string) bool {
	switch {
	case p.Username != "":
		return localpart == p.Username
	case p.Pattern != "":
		return matches(p.Pattern, localpart)
	}
	return true
}

// matches looks for the first place where the rest after a * fits, and moves on from
// there: the greedy match of shell patterns, which needs no more than the product of
// both lengths.
func matches(pattern, s string) bool {
	p, i, star, resume := 0, 0, -1, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, resume = p, i
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == s[i]):
			p++
			i++
		case star >= 0:
			resume++
			p, i = star+1, resume
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

// CheckMeta returns what is wrong with the Meta of a registration token for this
// homeserver: a pin that cannot be read, a pinned name that nobody could register, or a
// pinned address where no flow asks for one. It is for admin.Options.CheckMeta, so that the administrator who makes the token sees the
// mistake, and not the person who gets the token.
func (reg *Registration) CheckMeta(meta json.RawMessage) error {
	pin, err := ReadPin(meta)
	if err == nil && pin.Email != "" && !reg.asksForEmail() {
		err = errors.New("email: registration asks for no e-mail address here")
	}
	if err != nil || pin.Username == "" {
		return err
	}
	err = reg.checkGrammar(pin.Username, reg.ServerName)
	if err == nil {
		err = reg.checkReserved(pin.Username)
	}
	if err == nil {
		err = reg.checkPolicy(context.Background(), UsernameRequest{ServerName: reg.ServerName, Localpart: pin.Username})
	}
	if refusal, ok := errors.AsType[*uia.Error](err); ok {
		return errors.New("username: " + refusal.Err)
	}
	return err
}

// pinOf returns the pin of the session's token, and false if it has no token yet.
func pinOf(s *uia.Session) (Pin, bool, error) {
	if s == nil {
		return Pin{}, false, nil
	}
	token, ok := s.Token()
	if !ok {
		return Pin{}, false, nil
	}
	pin, err := ReadPin(token.Meta)
	if err != nil {
		// The Meta was not checked by the admin API, and its pin cannot be read.
		return Pin{}, true, &uia.Error{
			Status:      http.StatusForbidden,
			MatrixError: spec.Forbidden("The registration token is for a user who cannot be told from it. Please ask who gave it to you."),
			Cause:       fmt.Errorf("register: the pin of the token %s: %w", uia.Fingerprint(token.Token), err),
		}
	}
	return pin, true, nil
}

// pinned returns the name that an account of this session gets as far as it is known:
// what the client asks for, or what the session's token is pinned to if it asks for
// nothing. It refuses a name that the token is not for. Before the token stage is
// completed it refuses nothing.
func pinned(s *uia.Session, username string) (string, error) {
	pin, ok, err := pinOf(s)
	if !ok || err != nil {
		return username, err
	}
	switch {
	case username == "" && pin.Username != "":
		return pin.Username, nil
	case username == "" && pin.Pattern != "":
		return "", errPinned("needs a username of the form " + pin.Pattern)
	case pin.Allows(username):
		return username, nil
	case pin.Username != "":
		return "", errPinned("is for the username " + pin.Username)
	}
	return "", errPinned("is for usernames of the form " + pin.Pattern)
}

// errPinned refuses a name that would be allowed without the pin of the token. The answer
// is 409 M_FORBIDDEN because clients have texts of their own for M_INVALID_USERNAME and
// for 400, 401 and 403, and this one has to be read.
func errPinned(message string) error {
	return refuse(http.StatusConflict, spec.ErrorForbidden, "This registration token "+message)
}
