package agent

import (
	"strings"
	"testing"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/agent/shim"
)

// TestEvidenceHidesSecrets: neither a value that begins another one nor the bound of a text leaves a piece of a secret.
func TestEvidenceHidesSecrets(t *testing.T) {
	at := &attempt{spec: &shim.Spec{}}
	at.spec.Start.Spec = autoheal.Spec{Env: map[string]string{"TOKEN": "hunter22", "PASSWORD": "hunter22secret", "LEVEL": "info"}}
	a := &Agent{attempts: map[key]*attempt{{}: at}}
	text := "info " + "hunter22secret" + strings.Repeat("x", 20)
	for most := range len(text) + 4 {
		if got := evidence(text, a.secrets(), most); strings.Contains(got, "secret") || strings.Contains(got, "cret") || strings.Contains(got, "unter") {
			t.Errorf("of %d bytes: %q", most, got)
		}
	}
	if got := evidence(text, a.secrets(), maxEvidence); got != "info [PASSWORD]"+strings.Repeat("x", 20) {
		t.Errorf("got %q", got)
	}
}
