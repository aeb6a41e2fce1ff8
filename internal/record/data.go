// Package record is the sealed part of a session's record, and what it decides: which
// parameters count for a request, and who proves to be the client that the operation has
// run for. It knows no HTTP and no store.
package record

import (
	"encoding/json"
	"slices"
)

// Completion is one completed stage.
type Completion struct {
	Type   string          `json:"t"`
	Result json.RawMessage `json:"r,omitempty"`
}

// Data is the sealed part of a record.
type Data struct {
	Completed []Completion `json:"c,omitempty"`
	// Params are the latest parameters that came with a completed stage or a run.
	Params json.RawMessage `json:"p,omitempty"`
	// Doubt says that an earlier run of the operation may have taken effect, or may still
	// take effect: its use must not be given back before Resolve has been asked.
	Doubt bool `json:"d,omitempty"`

	// Of the request that has had the operation run last.
	Request []byte `json:"q,omitempty"` // its MAC
	Sent    []byte `json:"s,omitempty"` // MAC of the parameters that counted; absent if there were none

	// Of a finished session.
	Response json.RawMessage `json:"o,omitempty"` // absent if it cannot be sent again
	Dead     bool            `json:"x,omitempty"` // the operation can never succeed under this key
	Finished int64           `json:"f,omitempty"` // milliseconds since 1970
}

// With returns a copy that has one more completion.
func (d *Data) With(c Completion) *Data {
	out := *d
	out.Completed = append(slices.Clone(d.Completed), c)
	return &out
}

// WithResult returns a copy in which the stage at this place has another result.
func (d *Data) WithResult(i int, result json.RawMessage) *Data {
	out := *d
	out.Completed = slices.Clone(d.Completed)
	out.Completed[i].Result = result
	return &out
}

// First returns a copy that has only the first n completions.
func (d *Data) First(n int) *Data {
	out := *d
	out.Completed = slices.Clone(d.Completed[:n])
	return &out
}

// Types lists the auth types of the completed stages.
func (d *Data) Types() []string {
	types := make([]string, len(d.Completed))
	for i, c := range d.Completed {
		types[i] = c.Type
	}
	return types
}

// End returns the data of a session that has finished at this time, in milliseconds since
// 1970. A nil response cannot be sent again.
func (d *Data) End(response json.RawMessage, at int64) *Data {
	out := &Data{Response: response, Finished: at}
	for _, c := range d.Completed {
		out.Completed = append(out.Completed, Completion{Type: c.Type})
	}
	return out
}
