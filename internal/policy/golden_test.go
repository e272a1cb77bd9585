package policy

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"
)

var update = flag.Bool("update", false, "rewrite golden files")

func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; write it with -update", err)
	}
	if string(want) != string(got) {
		t.Errorf("%s is out of date: run go test ./internal/policy -update and read the difference", path)
	}
}

func TestSchemaGolden(t *testing.T) {
	data, err := json.MarshalIndent(Schema(), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/schema.json", append(data, '\n'))
}

func TestReferenceGolden(t *testing.T) { golden(t, "../../docs/config.md", []byte(Reference())) }

// TestDefaultYAMLGolden shows every key with its default, and that printing keeps the document's order.
func TestDefaultYAMLGolden(t *testing.T) { golden(t, "testdata/default.yaml", Default().YAML()) }
