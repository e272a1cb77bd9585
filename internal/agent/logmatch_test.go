package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
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
	for _, tc := range []struct {
		query, line string
		want        bool
	}{
		{"", "anything", true},
		{"nccl timeout", "Watchdog TIMEOUT in NCCL", true},
		{"nccl timeout", "NCCL ok", false},
		{`"has fallen off"`, "GPU has fallen off the bus", true},
		{`"has fallen off"`, "off has fallen", false},
		{"Xid error OR GPU has fallen off", "GPU has fallen off the bus", true},
		{"Xid error OR GPU has fallen off", "Xid only", false},
		{`"OR"`, "this or that", true},
		{`"`, "anything", true},
	} {
		if got := parseQuery(tc.query)([]byte(tc.line)); got != tc.want {
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
