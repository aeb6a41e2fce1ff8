package hs

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/matrix-org/gomatrixserverlib/spec"
	"github.com/sethvargo/go-diceware/diceware"
	"rsc.io/qr"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/admin"
)

// routeAdmin lays out what server admins use, with the paths and shapes of
// Synapse's admin API, which their tools know.
func (s *Server) routeAdmin(opts Options) error {
	tokens, err := admin.Handler(opts.Storage.Tokens, s.authorizeAdmin, &admin.Options{
		InviteURL: opts.inviteURL(),
		QR:        drawQR,
		Words:     words(),
		Secrets:   opts.Storage.Secrets,
		CheckMeta: s.registration.CheckMeta,
		Observer:  s.observe,
		Logger:    s.log,
	})
	if err != nil {
		return err
	}
	s.router.add("", admin.Path, tokens)
	s.router.add("", admin.Path+"/", tokens)
	s.router.add("GET", "/_synapse/admin/v1/server_version", s.handle(s.serverVersion))
	for _, v := range []string{"v2", "v3"} {
		s.router.add("GET", "/_synapse/admin/"+v+"/users", s.handle(s.users))
	}
	// The counters say nothing about any one user or token. Behind a proxy that leads
	// the world here, do not forward this path all the same.
	s.router.add("GET", "/metrics", s.metrics.handler())
	return nil
}

// authorizeAdmin returns the ID of the server admin whose access token r carries.
func (s *Server) authorizeAdmin(r *http.Request) (string, error) {
	caller, err := s.caller(r)
	if err != nil {
		return "", err
	}
	user, err := s.accounts.User(r.Context(), caller.Localpart)
	if err != nil {
		return "", err
	}
	if !user.Admin {
		return "", uia.NewError(http.StatusForbidden, spec.Forbidden("You are not a server admin"))
	}
	return s.userID(user.Localpart), nil
}

// serverVersion is asked by web interfaces before and after a login.
func (s *Server) serverVersion(*http.Request) (any, error) {
	return map[string]string{"server_version": "uia example homeserver"}, nil
}

// listedUser is a user in the shape of Synapse's user admin API.
type listedUser struct {
	Name        string  `json:"name"`
	IsGuest     bool    `json:"is_guest"`
	Admin       bool    `json:"admin"`
	UserType    *string `json:"user_type"`
	Deactivated bool    `json:"deactivated"`
	Locked      bool    `json:"locked"`
	DisplayName string  `json:"displayname"`
	AvatarURL   *string `json:"avatar_url"`
	Created     int64   `json:"creation_ts"`
}

const maxUsers = 1000 // on one page

// users lists the accounts, by offset as Synapse does.
func (s *Server) users(r *http.Request) (any, error) {
	if _, err := s.authorizeAdmin(r); err != nil {
		return nil, err
	}
	query := r.URL.Query()
	number := func(name string, otherwise int) (int, error) {
		if !query.Has(name) {
			return otherwise, nil
		}
		n, err := strconv.Atoi(query.Get(name))
		if err != nil || n < 0 {
			return 0, uia.NewError(http.StatusBadRequest, spec.InvalidParam(name+" must be a number, not negative"))
		}
		return n, nil
	}
	from, err := number("from", 0)
	if err != nil {
		return nil, err
	}
	limit, err := number("limit", 100)
	if err != nil {
		return nil, err
	}
	found, total, err := s.accounts.Users(r.Context(), query.Get("name"), from, min(limit, maxUsers))
	if err != nil {
		return nil, err
	}
	list := make([]listedUser, len(found))
	for i, u := range found {
		list[i] = listedUser{Name: s.userID(u.Localpart), Admin: u.Admin, DisplayName: u.Localpart, Created: u.Created.UnixMilli()}
	}
	out := map[string]any{"users": list, "total": total}
	if next := from + len(found); len(found) > 0 && next < total {
		out["next_token"] = strconv.Itoa(next)
	}
	return out, nil
}

// Credentials are a localpart and a password.
type Credentials struct{ Localpart, Password string }

// HasUser reports whether there is a user of this localpart.
func (s *Server) HasUser(ctx context.Context, localpart string) (bool, error) {
	_, err := s.accounts.User(ctx, localpart)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// Ensured is what [Server.EnsureAdmin] has found or done.
type Ensured int

// What can come of EnsureAdmin.
const (
	AdminMade     Ensured = iota + 1 // the account was made
	AdminThere                       // it was there, and a server admin's
	AdminPromoted                    // it was there, and is a server admin's now
)

// EnsureAdmin makes sure that there is an account of this name, and that it is a server
// admin's. One that is there already keeps its password.
func (s *Server) EnsureAdmin(ctx context.Context, c Credentials) (Ensured, error) {
	if !ValidLocalpart(c.Localpart, s.name) {
		return 0, fmt.Errorf("hs: %q cannot be the name of a user", c.Localpart)
	}
	if err := checkPassword(c.Password); err != nil {
		return 0, err
	}
	hash, err := s.passwords.Hash(ctx, c.Password)
	if err != nil {
		return 0, err
	}
	_, err = s.accounts.CreateUser(ctx, User{Localpart: c.Localpart, PasswordHash: hash, Admin: true, Created: time.Now()})
	if !errors.Is(err, ErrTaken) {
		return AdminMade, err
	}
	user, err := s.accounts.User(ctx, c.Localpart)
	if err != nil || user.Admin {
		return AdminThere, err
	}
	return AdminPromoted, s.accounts.SetAdmin(ctx, c.Localpart)
}

// drawQR draws the QR code of a link.
func drawQR(text string) ([]byte, error) {
	code, err := qr.Encode(text, qr.M)
	if err != nil {
		return nil, err
	}
	return code.PNG(), nil
}

// words is the EFF's list of 7776 words, one for each throw of five dice.
var words = sync.OnceValue(func() (list []string) {
	eff := diceware.WordListEffLarge()
	var throw func(dice, so int)
	throw = func(dice, so int) {
		if dice == 0 {
			list = append(list, eff.WordAt(so))
			return
		}
		for die := 1; die <= 6; die++ {
			throw(dice-1, so*10+die)
		}
	}
	throw(eff.Digits(), 0)
	return list
})
