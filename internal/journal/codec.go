package journal

import (
	"bytes"
	"encoding/json"
	"fmt"
)

func decode[T Payload](data []byte) (Payload, error) {
	var v T
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&v); err != nil {
		return nil, err
	}
	return v, nil
}

// UnmarshalJSON reads a record. A version above Version and a type that is not known are errors: a journal written by a
// newer program is never read in part.
func (r *Record) UnmarshalJSON(b []byte) error {
	type plain Record
	env := struct {
		*plain
		Data json.RawMessage `json:"data"`
	}{plain: (*plain)(r)}
	if err := json.Unmarshal(b, &env); err != nil {
		return err
	}
	if r.V > Version {
		return fmt.Errorf("record %d has version %d, this program reads up to %d: use the newer autoheal", r.Seq, r.V, Version)
	}
	dec, ok := decoders[r.Type]
	if !ok {
		return fmt.Errorf("record %d has unknown type %q: it was written by a newer autoheal", r.Seq, r.Type)
	}
	data, err := dec(env.Data)
	if err != nil {
		return fmt.Errorf("record %d, %s: %w", r.Seq, r.Type, err)
	}
	r.Data = data
	return nil
}
