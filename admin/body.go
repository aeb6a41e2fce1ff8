package admin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/matrix-uia/uia/internal/api"
)

const (
	maxMeta = 4 << 10
	maxInt  = api.MaxInt
)

// isRecord reports whether the object is a whole record of this API, as web interfaces
// send it back: it has members that a PUT cannot set.
func isRecord(o api.Object) bool {
	return slices.ContainsFunc([]string{"pending", "completed", "created_ts", "created_by", "last_used_ts", "fingerprint", "valid"}, o.Has)
}

// meta reads the object for the homeserver, in its shortest form.
func (h *handler) meta(o api.Object) (json.RawMessage, error) {
	if !o.Given("meta") {
		return nil, nil
	}
	if _, err := api.ParseObject(o["meta"]); err != nil {
		return nil, api.Invalid("meta " + err.Error())
	}
	var short bytes.Buffer
	if err := json.Compact(&short, o["meta"]); err != nil {
		return nil, err
	}
	if short.Len() > maxMeta {
		return nil, api.Invalid(fmt.Sprintf("meta must be at most %d bytes long", maxMeta))
	}
	if err := h.opts.CheckMeta(short.Bytes()); err != nil {
		return nil, api.Invalid("meta: " + err.Error())
	}
	return short.Bytes(), nil
}
