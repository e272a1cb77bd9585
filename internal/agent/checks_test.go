package agent

import (
	"strings"
	"testing"
)

func TestSumMetric(t *testing.T) {
	text := "# HELP steps x\nsteps_total 7\nsteps 3 1700000000\nsteps{gpu=\"0\",odd=\"} 9\"} 4\nstepsize 100\n"
	if v, err := sumMetric(text, "steps"); err != nil || v != 7 {
		t.Errorf("%v, %v", v, err)
	}
	if _, err := sumMetric(text, "loss"); err == nil || !strings.Contains(err.Error(), "loss") {
		t.Errorf("missing: %v", err)
	}
	if _, err := sumMetric("steps x\n", "steps"); err == nil {
		t.Error("a value that is none was read")
	}
}
