package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"autoheal.dev/autoheal/internal/signal"
	"autoheal.dev/autoheal/internal/signal/source"
)

// maxBatchLine bounds an entry of a batch.
const maxBatchLine = 64 << 20

// batchIn is one entry of a batch. The ID is handed back as it came, text or number.
type batchIn struct {
	ID   json.RawMessage `json:"id"`
	Text *string         `json:"text"`
	Kind string          `json:"kind"`
}

// batchOut is its answer. An entry that cannot be judged has an error instead of a verdict, at its own place.
type batchOut struct {
	ID      json.RawMessage `json:"id"`
	Verdict *signal.Verdict `json:"verdict"`
	Signals []signalView    `json:"signals"`
	Error   string          `json:"error,omitempty"`
}

// classifyBatch answers entry by entry, in order; those that are wrong are named and the others answered all the same.
func classifyBatch(std stdio, name string, r io.Reader, c *signal.Catalogue, inv *signal.Inventory) error {
	in, out := bufio.NewReaderSize(r, 1<<20), bufio.NewWriter(std.out)
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	bad := 0
	for number := 1; ; number++ {
		line, err := readBatchLine(in)
		if err != nil && !isEOF(err) && !errors.Is(err, errTooLong) {
			return errors.Join(fmt.Errorf("read %s: %w", name, err), out.Flush())
		}
		if len(bytes.TrimSpace(line)) > 0 || errors.Is(err, errTooLong) {
			answer := answerEntry(line, err, c, inv)
			if answer.Error != "" {
				bad++
				answer.Error = fmt.Sprintf("%s:%d: %s", name, number, answer.Error)
				fmt.Fprintln(std.err, "error: "+answer.Error)
			}
			if err := enc.Encode(answer); err != nil {
				return fmt.Errorf("write the answer: %w", err)
			}
		}
		if isEOF(err) {
			break
		}
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("write the answers: %w", err)
	}
	if bad > 0 {
		return fmt.Errorf("%d of the lines of %s could not be judged", bad, name)
	}
	return nil
}

func answerEntry(line []byte, err error, c *signal.Catalogue, inv *signal.Inventory) batchOut {
	out := batchOut{ID: json.RawMessage("null"), Signals: []signalView{}}
	if errors.Is(err, errTooLong) {
		out.Error = err.Error()
		return out
	}
	var e batchIn
	if err := json.Unmarshal(line, &e); err != nil {
		out.Error = fmt.Sprintf(`not an entry {"id", "text", "kind"}: %s`, err)
		return out
	}
	if len(e.ID) > 0 {
		out.ID = e.ID
	}
	kind, ok := kinds[e.Kind]
	switch {
	case e.Text == nil:
		out.Error = "the entry has no text"
		return out
	case !ok:
		out.Error = fmt.Sprintf("kind %q: expected kernel, workload or mixed", e.Kind)
		return out
	}
	book := signal.NewBook(signal.BookOptions{})
	source.Excerpt([]byte(*e.Text), c, kind, signal.NewStream(c, inv), func(f signal.Found) { book.Add(f) })
	j := judge(book)
	out.Verdict, out.Signals = &j.Verdict, j.Signals
	return out
}

var errTooLong = fmt.Errorf("longer than %d MiB", maxBatchLine>>20)

// readBatchLine reads a line of any length up to the limit, and skips the rest of a longer one.
func readBatchLine(in *bufio.Reader) ([]byte, error) {
	var line []byte
	long := false
	for {
		part, err := in.ReadSlice('\n')
		if long = long || len(line)+len(part) > maxBatchLine; !long {
			line = append(line, part...)
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if long {
			return nil, errors.Join(errTooLong, err)
		}
		return line, err
	}
}

func isEOF(err error) bool { return errors.Is(err, io.EOF) }
