package journal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
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
	data = bytes.TrimRight(bytes.TrimLeft(data, space), space)
	if len(data) == 0 || data[0] != '{' {
		return errors.New("not a JSON object")
	}
	s := streams.Get().(*stream)
	begun := s.dec.InputOffset()
	s.left = data
	if err := s.dec.Decode(v); err != nil {
		return err // and the stream is not used again: what is left in it would come next
	}
	if s.dec.InputOffset()-begun != int64(len(data)) {
		return errors.New("something follows the JSON object")
	}
	streams.Put(s)
	return nil
}

const space = " \t\r\n"

// stream is a decoder that reads one object after the other: making one for each costs more than decoding most records.
type stream struct {
	dec  *json.Decoder
	left []byte
}

// Read implements io.Reader.
func (s *stream) Read(p []byte) (int, error) {
	if len(s.left) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.left)
	s.left = s.left[n:]
	return n, nil
}

var streams = sync.Pool{New: func() any {
	s := &stream{}
	s.dec = json.NewDecoder(s)
	s.dec.DisallowUnknownFields()
	return s
}}

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
