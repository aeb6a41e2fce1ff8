package hs

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia"
)

// maxPoll is how long a sync waits at most for what never comes.
const maxPoll = 30 * time.Second

// sync answers what a client needs in order to show its user as logged in: that
// there is nothing new. It waits as long as the client asks it to, or the client
// would ask without a pause.
func (s *Server) sync(r *http.Request, caller Device) (any, error) {
	query := r.URL.Query()
	timeout, _ := strconv.ParseInt(query.Get("timeout"), 10, 64)
	first := query.Get("since") == ""
	if wait := min(max(timeout, 0), maxPoll.Milliseconds()); wait > 0 && !first {
		timer := time.NewTimer(time.Duration(wait) * time.Millisecond)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-r.Context().Done():
		case <-s.closed:
		}
		var err error
		if caller, err = s.caller(r); err != nil { // logged out meanwhile
			return nil, err
		}
	}
	accountData := []any{}
	if first {
		accountData = append(accountData, map[string]any{"type": "m.push_rules", "content": noPushRules})
	}
	return map[string]any{
		"next_batch":   "s1",
		"account_data": map[string]any{"events": accountData},
		"rooms": map[string]any{
			"join": struct{}{}, "invite": struct{}{}, "leave": struct{}{}, "knock": struct{}{},
		},
		"device_one_time_keys_count":       caller.Keys.counts(),
		"device_unused_fallback_key_types": []string{},
	}, nil
}

// noPushRules is a set of push rules without a rule.
var noPushRules = map[string]any{"global": map[string][]any{
	"override": {}, "content": {}, "room": {}, "sender": {}, "underride": {},
}}

func (s *Server) pushRules(*http.Request, Device) (any, error) { return noPushRules, nil }

// maxFilter is how long a filter may be.
const maxFilter = 2 << 10

// putFilter "stores" a filter: its ID is the filter itself.
func (s *Server) putFilter(r *http.Request, caller Device) (any, error) {
	if err := s.isCaller(r, caller); err != nil {
		return nil, err
	}
	var filter json.RawMessage
	if err := readJSON(r, &filter); err != nil {
		return nil, err
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, filter); err != nil || compact.Bytes()[0] != '{' {
		return nil, uia.NewError(http.StatusBadRequest, spec.BadJSON("A filter is an object"))
	}
	if compact.Len() > maxFilter {
		return nil, tooLarge("The filter is too large")
	}
	return map[string]string{"filter_id": base64.RawURLEncoding.EncodeToString(compact.Bytes())}, nil
}

func (s *Server) getFilter(r *http.Request, caller Device) (any, error) {
	if err := s.isCaller(r, caller); err != nil {
		return nil, err
	}
	filter, err := base64.RawURLEncoding.DecodeString(r.PathValue("filter"))
	if err != nil || !json.Valid(filter) {
		return nil, uia.NewError(http.StatusNotFound, spec.NotFound("No such filter"))
	}
	return json.RawMessage(filter), nil
}

// isCaller returns an error unless the user that the path names is the caller.
func (s *Server) isCaller(r *http.Request, caller Device) error {
	if r.PathValue("user") != s.userID(caller.Localpart) {
		return uia.NewError(http.StatusForbidden, spec.Forbidden("That is another user"))
	}
	return nil
}
