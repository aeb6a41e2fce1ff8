package hs

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia"
)

// maxOneTimeKeys is how many one-time keys a device may have here. Clients keep
// fifty or so.
const maxOneTimeKeys = 500

// uploadKeys publishes the keys of the calling device.
func (s *Server) uploadKeys(r *http.Request, caller Device) (any, error) {
	var req struct {
		DeviceKeys  json.RawMessage            `json:"device_keys"`
		OneTimeKeys map[string]json.RawMessage `json:"one_time_keys"`
	}
	if err := readJSON(r, &req); err != nil {
		return nil, err
	}
	keys := DeviceKeys{OneTime: req.OneTimeKeys}
	if req.DeviceKeys != nil && !bytes.Equal(req.DeviceKeys, []byte("null")) {
		var owner struct {
			UserID   string `json:"user_id"`
			DeviceID string `json:"device_id"`
		}
		if err := json.Unmarshal(req.DeviceKeys, &owner); err != nil {
			return nil, uia.NewError(http.StatusBadRequest, spec.BadJSON("device_keys is malformed"))
		}
		if owner.UserID != s.userID(caller.Localpart) || owner.DeviceID != caller.ID {
			return nil, uia.NewError(http.StatusBadRequest, spec.InvalidParam("device_keys are those of another device"))
		}
		keys.Identity = req.DeviceKeys
	}
	if len(caller.Keys.OneTime)+len(keys.OneTime) > maxOneTimeKeys {
		return nil, uia.NewError(http.StatusBadRequest, spec.InvalidParam("Too many one-time keys"))
	}
	all, err := s.accounts.AddKeys(r.Context(), caller.Localpart, caller.ID, keys)
	if err != nil {
		return nil, err
	}
	return map[string]any{"one_time_key_counts": all.counts()}, nil
}

// counts returns how many one-time keys there are of each algorithm.
func (k DeviceKeys) counts() map[string]int {
	counts := map[string]int{"signed_curve25519": 0}
	for name := range k.OneTime {
		algorithm, _, _ := strings.Cut(name, ":")
		counts[algorithm]++
	}
	return counts
}

// queryKeys returns the identity keys of devices. Users of other servers, and
// those that there are not, have none.
func (s *Server) queryKeys(r *http.Request, caller Device) (any, error) {
	var req struct {
		DeviceKeys map[string][]string `json:"device_keys"` // by user; no device means all
	}
	if err := readJSON(r, &req); err != nil {
		return nil, err
	}
	found := make(map[string]map[string]json.RawMessage)
	master, self, own := keysByUser{}, keysByUser{}, keysByUser{}
	for userID, wanted := range req.DeviceKeys {
		if !strings.HasPrefix(userID, "@") {
			return nil, uia.NewError(http.StatusBadRequest, spec.InvalidParam("Not a user ID"))
		}
		user, err := s.findUser(r.Context(), userID)
		if errors.Is(err, ErrNotFound) {
			continue
		} else if err != nil {
			return nil, err
		}
		devices, err := s.accounts.Devices(r.Context(), user.Localpart)
		if err != nil {
			return nil, err
		}
		found[userID] = identityKeys(devices, wanted)
		master.add(userID, user.SigningKeys.Master)
		self.add(userID, user.SigningKeys.Self)
		if user.Localpart == caller.Localpart { // nobody else may see whom a user has verified
			own.add(userID, user.SigningKeys.User)
		}
	}
	return map[string]any{"device_keys": found, "failures": struct{}{},
		"master_keys": master, "self_signing_keys": self, "user_signing_keys": own}, nil
}

type keysByUser map[string]json.RawMessage

func (k keysByUser) add(userID string, key json.RawMessage) {
	if key != nil {
		k[userID] = key
	}
}

// identityKeys returns the identity keys of those devices that are wanted, with
// their names, by device ID.
func identityKeys(devices []Device, wanted []string) map[string]json.RawMessage {
	found := make(map[string]json.RawMessage)
	for _, d := range devices {
		if d.Keys.Identity == nil || len(wanted) > 0 && !slices.Contains(wanted, d.ID) {
			continue
		}
		var keys map[string]json.RawMessage
		if json.Unmarshal(d.Keys.Identity, &keys) != nil {
			continue
		}
		keys["unsigned"], _ = json.Marshal(map[string]string{"device_display_name": d.Name})
		found[d.ID], _ = json.Marshal(keys)
	}
	return found
}
