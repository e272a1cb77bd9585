package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/signal"
)

func TestGuessLevel(t *testing.T) {
	for line, want := range map[string]level{
		"E1123 21:08:44.123456 1 main.go:7] boom":     levelError,
		"W1123 21:08:44.123456 1 main.go:7] hm":       levelWarn,
		"I1123 21:08:44.123456 1 error.go:7] fine":    levelInfo,
		`{"level":"warn","msg":"x"}`:                  levelWarn,
		"2026-11-23 ERROR failed to connect":          levelError,
		"[rank0]: Traceback (most recent call last):": levelError,
		"torch.OutOfMemoryError: CUDA out of memory":  levelError,
		"RuntimeError: NCCL communicator was aborted": levelError,
		"DEBUG: step 7":     levelDebug,
		"epoch 3 loss 0.25": levelInfo,
		"the terror of warnings that are not about a war": levelInfo,
		"": levelInfo,
	} {
		if got := guessLevel([]byte(line)); got != want {
			t.Errorf("%q is %d, want %d", line, got, want)
		}
	}
}

func TestQuery(t *testing.T) {
	gpu := []string{"GPU failure", "Xid error"}
	for _, tc := range []struct {
		query, line string
		words       []string
		want        bool
	}{
		{"", "anything", nil, true},
		{"nccl watchdog", "Watchdog TIMEOUT in NCCL", nil, true},
		{"nccl watchdog", "NCCL ok", nil, false},
		{`"has fallen off"`, "GPU has fallen off the bus", nil, true},
		{`"has fallen off"`, "off has fallen", nil, false},
		{"Xid error OR GPU has fallen off", "anything at all", gpu, true},
		{"Xid error OR GPU has fallen off", "no Xid error was found, no GPU has fallen off", nil, false},
		{`"Xid error"`, "the words Xid error, searched as such", nil, true},
		{"Xid error today", "an Xid error of today", nil, true},
		{`"OR"`, "this or that", nil, true},
		{`"`, "anything", nil, true},
	} {
		if got := parseQuery(tc.query).matches([]byte(tc.line), tc.words); got != tc.want {
			t.Errorf("%q in %q: %v", tc.query, tc.line, got)
		}
	}
}

func TestLogFilesMerge(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"log.0": "#autoheal-log 7\n3000 o seven\n3001 e eight\n3002 o torn",
		"log.1": "#autoheal-log 5\n2000 o five\n2001 d 1\n",
		"log.2": "#autoheal-log 5\n2000 o five\n2001 d 1\n", // met twice, because it was renamed meanwhile
		"log.3": "#autoheal-log 3\n1000 o three\ngarbage\n1001 x unknown\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	chunks, err := readLogFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	var lost int64
	var got strings.Builder
	for r := range records(chunks, &lost) {
		got.WriteString(r.stream + ":" + string(r.text) + " ")
	}
	if want := "stdout:three stdout:five stdout:seven stderr:eight "; got.String() != want || lost != 4 {
		t.Errorf("%q and %d lost, want %q and 4", got.String(), lost, want)
	}
}

// The product description's own queries find every sample of their failure and no look-alike (behaviour H2).
func TestProductQueries(t *testing.T) {
	catalogue, err := signal.Builtin()
	if err != nil {
		t.Fatal(err)
	}
	samples, lookalikes := 0, 0
	for failure, text := range map[autoheal.Failure]string{
		autoheal.FailureGPU:     "Xid error OR GPU has fallen off",
		autoheal.FailureNetwork: "NCCL timeout OR connection refused",
	} {
		q := parseQuery(text)
		for _, r := range catalogue.Rules() {
			s := logSearch{kind: r.Kind, catalogue: catalogue}
			for _, sample := range r.Samples {
				line := []byte(sample.Text)
				m, ok := catalogue.Match(signal.Unframe(line).Message, r.Kind)
				if !ok || m.Failure != failure || m.Benign || m.Rule.Context {
					continue
				}
				if samples++; !q.matches(line, s.words(line)) {
					t.Errorf("%q does not find %q of %s", text, sample.Text, r.ID)
				}
			}
			for _, look := range r.Lookalikes {
				line := []byte(look)
				m, ok := catalogue.Match(signal.Unframe(line).Message, r.Kind)
				if ok && !m.Benign && m.Failure == failure {
					continue // another rule's sample
				}
				if lookalikes++; q.matches(line, s.words(line)) && !ok {
					t.Errorf("%q finds the look-alike %q of %s", text, look, r.ID)
				}
			}
		}
	}
	if samples < 60 || lookalikes < 60 {
		t.Errorf("only %d samples and %d look-alikes were tried", samples, lookalikes)
	}
}
