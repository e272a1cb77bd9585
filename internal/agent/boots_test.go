package agent

import (
	"os"
	"path/filepath"
	"testing"

	"autoheal.dev/autoheal/internal/agent/shim"
)

// A simulated boot is one of its own, says so, and is told by the node's own file alone.
func TestSimulatedBoots(t *testing.T) {
	own, err := shim.BootID()
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Name: "n1", SimulateBoots: t.TempDir()}
	want := func(id string) {
		t.Helper()
		if got, err := o.bootID(); err != nil || got != id {
			t.Errorf("%q, %v; want %q", got, err, id)
		}
	}
	want(own)
	for name, text := range map[string]string{"n1": "2\n", "n2": "7\n"} {
		if err := os.WriteFile(filepath.Join(o.SimulateBoots, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want(own + ".simulated-2")
	o.SimulateBoots = ""
	want(own)
}
