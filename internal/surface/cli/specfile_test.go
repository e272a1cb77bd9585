package cli

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"autoheal.dev/autoheal/internal/tool"
	"github.com/rogpeppe/go-internal/txtar"
)

// FuzzSpecs reads anything as a specification file: it is refused with the file's name, or every document is one that
// the verb takes. It never panics, whatever the YAML library does.
func FuzzSpecs(f *testing.F) {
	ar, err := txtar.ParseFile(filepath.Join("testdata", "script", "submit.txtar"))
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range ar.Files {
		f.Add(file.Data)
	}
	f.Add([]byte("a: &a {b: *a}"))
	f.Add([]byte("? [a]\n: b"))
	f.Add([]byte("!!binary x"))
	f.Add([]byte("<<: {name: x}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		docs, err := readSpecs("spec.yaml", data)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "spec.yaml:") {
				t.Errorf("the refusal does not name the file: %v", err)
			}
			return
		}
		for _, d := range docs {
			if err := tool.CheckSubmission(d.raw); err != nil {
				t.Errorf("%s: %v", d.raw, err)
			}
		}
	})
}

// TestExitCodes of what commands may return.
func TestExitCodes(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want int
	}{
		{nil, ExitOK},
		{errors.New("x"), ExitError},
		{usagef("x"), ExitUsage},
		{&NeedsPersonError{"x"}, ExitNeedsPerson},
		{os.ErrNotExist, ExitError},
	} {
		if got := ExitCode(tc.err); got != tc.want {
			t.Errorf("%v: exit code %d, want %d", tc.err, got, tc.want)
		}
	}
}

// TestExamples: every example is a file that submit takes as it is.
func TestExamples(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("..", "..", "..", "examples", "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		docs, err := readSpecs(f, data)
		if err != nil {
			t.Error(err)
		}
		for _, d := range docs {
			if err := tool.CheckSubmission(d.raw); err != nil {
				t.Errorf("%s: %v", d.at, err)
			}
		}
	}
}
