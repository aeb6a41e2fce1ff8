package register

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia"
)

// Pin is the username that a registration token is for. It stands in the token's
// Meta, next to whatever else the homeserver keeps there:
//
//	{"username": "alice"}             exactly this localpart
//	{"username_pattern": "student-*"} any localpart that matches
//
// In a pattern * stands for any number of characters, also none, and ? for one;
// everything else stands for itself, and the whole localpart has to match. So a
// pattern cannot be forgotten to be anchored, and cannot take long.
//
// Registration refuses another username with 400 M_INVALID_USERNAME: before the
// remaining stages once the token stage is completed, and again before the account is
// made. A client that asks for no username gets the pinned one; with a pattern it
// has to ask.
type Pin struct {
	Username string // "" if any is good
	Pattern  string // "" if there is none
}

// ReadPin reads the pin of a token's Meta: the zero Pin if it has none. The error
// says what is wrong with it, and is meant for whoever makes the token.
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
	switch {
	case err != nil:
		return Pin{}, errors.New("username_pattern is not a string")
	case hasName && hasPattern:
		return Pin{}, errors.New("username and username_pattern exclude each other")
	case hasName && (p.Username == "" || !localpart(p.Username, "")):
		return Pin{}, errors.New("username is no localpart of a user ID: " + grammar)
	case hasPattern && (p.Pattern == "" || !localpart(p.Pattern, "*?")):
		return Pin{}, errors.New("username_pattern consists of * and ? and of what usernames do: " + grammar)
	}
	return p, nil
}

const grammar = "1 to 255 of the characters a-z, 0-9, and . _ = - / +"

// localpart reports whether s could be the localpart of a user ID, or could be but
// for the further characters.
func localpart(s, further string) bool {
	if len(s) > maxUserID {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9',
			c == '.', c == '_', c == '=', c == '-', c == '/', c == '+':
		case len(further) > 0 && (c == further[0] || c == further[1]):
		default:
			return false
		}
	}
	return true
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

// pinned returns the username of an account to be made in this session: what the
// client asks for, or the pinned one if it asks for none. It refuses what the
// session's token is not for. Before the token is known anything goes.
func pinned(s *uia.Session, username string) (string, error) {
	token, ok := s.Token()
	if !ok {
		return username, nil
	}
	pin, err := ReadPin(token.Meta)
	if err != nil {
		// It did not come through the admin API, and says something that we cannot tell.
		return "", &uia.Error{
			Status:      http.StatusForbidden,
			MatrixError: spec.Forbidden("The registration token is for a username that cannot be understood. Please ask who gave it to you."),
			Cause:       fmt.Errorf("register: the pin of the token %s: %w", uia.Fingerprint(token.Token), err),
		}
	}
	switch {
	case username == "" && pin.Username != "":
		return pin.Username, nil
	case username == "" && pin.Pattern != "":
		return "", refuse(http.StatusBadRequest, spec.ErrorInvalidUsername,
			"This registration token needs a username of the form "+pin.Pattern)
	case pin.Allows(username):
		return username, nil
	case pin.Username != "":
		return "", refuse(http.StatusBadRequest, spec.ErrorInvalidUsername, "This registration token is for the username "+pin.Username)
	}
	return "", refuse(http.StatusBadRequest, spec.ErrorInvalidUsername,
		"This registration token is for usernames of the form "+pin.Pattern)
}
