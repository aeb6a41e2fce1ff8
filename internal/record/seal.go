package record

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"

	"github.com/matrix-uia/uia/internal/seal"
)

// Place is what sealed data is bound to: where it is kept. Revision and state are part of
// it, so that an attacker who can write to the database cannot put an old revision in the
// place of a new one.
type Place struct {
	Key      string
	Revision int64
	State    int64
	Run      int64
}

// Seal seals the data for its place.
func (d *Data) Seal(k *seal.Keys, id string, at Place) ([]byte, error) {
	var plain bytes.Buffer
	e := json.NewEncoder(&plain)
	e.SetEscapeHTML(false) // parameters must come back as they were, in canonical form
	if err := e.Encode(d); err != nil {
		return nil, err
	}
	return k.Seal(id, plain.Bytes(), at.binding()), nil
}

// Open opens what Seal has sealed for the same place.
func Open(k *seal.Keys, id string, sealed []byte, at Place) (*Data, error) {
	plain, err := k.Open(id, sealed, at.binding())
	if err != nil {
		return nil, fmt.Errorf("uia: session record %s cannot be opened: %w", at.Key, err)
	}
	d := &Data{}
	if err := json.Unmarshal(plain, d); err != nil {
		return nil, fmt.Errorf("uia: session record %s is damaged", at.Key)
	}
	return d, nil
}

func (p Place) binding() []byte {
	out := binary.AppendUvarint(nil, uint64(len(p.Key)))
	out = append(out, p.Key...)
	out = binary.AppendVarint(out, p.Revision)
	out = binary.AppendVarint(out, p.State)
	return binary.AppendVarint(out, p.Run)
}
