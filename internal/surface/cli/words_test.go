package cli

import (
	"strings"
	"testing"
)

func TestLastWords(t *testing.T) {
	for detail, want := range map[string]string{
		"": "",
		"needs 9 × GPU: n1 has 8 of 8 GPUs free":               "needs 9 × GPU: n1 has 8 of 8 GPUs free",
		"start\nTraceback (most recent call last):\nboom: é\n": "boom: é",
		strings.Repeat("é", 300):                               strings.Repeat("é", 100) + "…",
	} {
		if got := lastWords(detail); got != want {
			t.Errorf("%q becomes %q, want %q", detail, got, want)
		}
	}
}
