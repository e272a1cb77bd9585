package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"autoheal.dev/autoheal/internal/signal"
)

// FuzzBatch: every line of a batch that is not empty gets one answer, which is JSON.
func FuzzBatch(f *testing.F) {
	c, err := signal.Builtin()
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(`{"id":"a","text":"NVRM: Xid (PCI:0000:05:00): 79, GPU has fallen off the bus.","kind":"kernel"}` + "\n\n" + `{"id":7,"text":"","kind":"mixed"}`))
	f.Add([]byte(`{"id":{"x":[1]},"text":"x","kind":"neither"}` + "\n{" + "\n" + `{"id":null}`))
	f.Fuzz(func(t *testing.T, batch []byte) {
		var out, errs bytes.Buffer
		err := classifyBatch(stdio{out: &out, err: &errs}, "batch", bytes.NewReader(batch), c, nil)
		want := 0
		for line := range bytes.Lines(batch) {
			if len(bytes.TrimSpace(line)) > 0 {
				want++
			}
		}
		bad := 0
		for line := range strings.Lines(out.String()) {
			var answer batchOut
			if json.Unmarshal([]byte(line), &answer) != nil {
				t.Errorf("not JSON: %q", line)
			}
			if answer.Error != "" {
				bad++
			}
			want--
		}
		if want != 0 || (bad > 0) != (err != nil) || bad != strings.Count(errs.String(), "error: batch:") {
			t.Errorf("%d answers missing, %d bad, %v, %q", want, bad, err, errs.String())
		}
	})
}
