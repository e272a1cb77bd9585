package program

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"autoheal.dev/autoheal/internal/clock"
)

// bmc is a Redfish service of one system, which turns off a moment after it was told to.
type bmc struct {
	mu     sync.Mutex // guards what follows
	power  string
	orders []string
	stuck  bool // it takes orders and does nothing
	looks  int  // since the order
}

func (b *bmc) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	user, password, _ := r.BasicAuth()
	switch {
	case user != "autoheal" || password != "secret":
		w.WriteHeader(http.StatusUnauthorized)
	case r.Method == http.MethodGet && r.URL.Path == "/redfish/v1/Systems/1":
		if b.looks++; len(b.orders) > 0 && b.orders[0] == "ForceOff" && b.looks > 2 && !b.stuck {
			b.power = "Off"
		}
		fmt.Fprintf(w, `{"PowerState": %q}`, b.power)
	case r.Method == http.MethodPost && r.URL.Path == "/redfish/v1/Systems/1/Actions/ComputerSystem.Reset":
		var in struct{ ResetType string }
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		b.orders, b.looks = append(b.orders, in.ResetType), 0
		w.WriteHeader(http.StatusNoContent)
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

// TestRedfishExample runs the example that ships, as a healer does, against a BMC.
func TestRedfishExample(t *testing.T) {
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("the example is written in Python, which is not here:", err)
	}
	example, err := filepath.Abs("../../deploy/fence/redfish")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		power, verb, node, password string
		mode                        os.FileMode
		stuck                       bool
		orders                      []string
		says                        string // "" = it succeeds
	}{
		"off":             {power: "On", verb: "fence", node: "gpu-7", orders: []string{"ForceOff"}},
		"off already":     {power: "Off", verb: "fence", node: "gpu-7"},
		"reboot":          {power: "On", verb: "reboot", node: "gpu-7", orders: []string{"ForceRestart"}},
		"stays on":        {power: "On", verb: "fence", node: "gpu-7", stuck: true, orders: []string{"ForceOff"}, says: "still on"},
		"unknown node":    {power: "On", verb: "fence", node: "gpu-8", says: "names no BMC for node gpu-8"},
		"unknown verb":    {power: "On", verb: "dance", node: "gpu-7", says: "cannot dance"},
		"wrong password":  {power: "On", verb: "fence", node: "gpu-7", password: "guess", says: "401"},
		"readable by all": {power: "On", verb: "fence", node: "gpu-7", mode: 0o644, says: "chmod 600"},
	} {
		t.Run(name, func(t *testing.T) {
			b := &bmc{power: c.power, stuck: c.stuck}
			server := httptest.NewServer(b)
			defer server.Close()
			password := "secret"
			if c.password != "" {
				password = c.password
			}
			file := filepath.Join(t.TempDir(), "bmc.json")
			text := fmt.Sprintf(`{"gpu-7": {"url": %q, "system": "/redfish/v1/Systems/1", "user": "autoheal", "password": %q}}`, server.URL, password)
			if err := os.WriteFile(file, []byte(text), 0o600|c.mode); err != nil {
				t.Fatal(err)
			}
			program := example
			if c.stuck { // it waits for most of a minute otherwise
				program = impatientCopy(t, example)
			}
			r := Run(t.Context(), clock.Real{}, Call{Argv: []string{program, file}, Input: map[string]string{"verb": c.verb, "node": c.node}, Timeout: patience})
			if (r.Err == nil) != (c.says == "") || !strings.Contains(r.Output, c.says) {
				t.Errorf("%v, %q", r.Err, r.Output)
			}
			if !slices.Equal(b.orders, c.orders) {
				t.Errorf("it ordered %q, want %q", b.orders, c.orders)
			}
			if strings.Contains(r.Output, "secret") {
				t.Errorf("it says the password: %q", r.Output)
			}
		})
	}
}

// impatientCopy is the example with a short wait for the confirmation.
func impatientCopy(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(t.TempDir(), "redfish")
	if err := os.WriteFile(copied, []byte(strings.Replace(string(data), "CONFIRM_SECONDS = 50", "CONFIRM_SECONDS = 1", 1)), 0o700); err != nil {
		t.Fatal(err)
	}
	return copied
}
