package journal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

func decode[T Payload](data []byte) (Payload, error) {
	var v T
	if err := strict(data, &v); err != nil {
		return nil, err
	}
	return v, nil
}

// strict decodes exactly one JSON object without unknown fields.
func strict(data []byte, v any) error {
	if first := bytes.TrimLeft(data, " \t\r\n"); len(first) == 0 || first[0] != '{' {
		return errors.New("not a JSON object")
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the JSON object")
	}
	return nil
}

// DecodePayload decodes the data of a record of type t. A type that is not known and a field that is not known are
// errors: what a newer program wrote is never read in part.
func DecodePayload(t Type, data []byte) (Payload, error) {
	dec, ok := decoders[t]
	if !ok {
		return nil, fmt.Errorf("unknown type %q: it was written by a newer autoheal", t)
	}
	p, err := dec(data)
	if err != nil {
		return nil, fmt.Errorf("data of %s: %w", t, err)
	}
	return p, nil
}

// UnmarshalJSON reads a record. A version above Version, a type and a field that are not known are errors: a journal
// written by a newer program is never read in part.
func (r *Record) UnmarshalJSON(b []byte) error {
	var version struct {
		V   int    `json:"v"`
		Seq uint64 `json:"seq"`
	}
	if err := json.Unmarshal(b, &version); err != nil {
		return fmt.Errorf("read record: %w", err)
	}
	if version.V > Version {
		return fmt.Errorf("record %d has version %d, this program reads up to %d: use the newer autoheal", version.Seq, version.V, Version)
	}
	type plain Record
	var read plain
	env := struct {
		*plain
		Data json.RawMessage `json:"data"`
	}{plain: &read}
	if err := strict(b, &env); err != nil {
		return fmt.Errorf("record %d: %w", version.Seq, err)
	}
	data, err := DecodePayload(read.Type, env.Data)
	if err != nil {
		return fmt.Errorf("record %d: %w", read.Seq, err)
	}
	*r = Record(read)
	r.Data = data
	return nil
}
