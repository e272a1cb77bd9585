package gpu

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/clock"
)

func TestParse(t *testing.T) {
	data, err := os.ReadFile("testdata/h100x8.xml")
	if err != nil {
		t.Fatal(err)
	}
	reports, err := Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	want := []struct {
		health autoheal.Health
		reason string
	}{
		{autoheal.HealthOK, ""},
		{autoheal.HealthFailed, "the driver asks for a reset"},
		{autoheal.HealthDegraded, "row remapping is pending"},
		{autoheal.HealthFailed, "row remapping failed"},
		{autoheal.HealthDegraded, "3 uncorrectable DRAM errors"},
		{autoheal.HealthFailed, "SRAM error threshold"},
		{autoheal.HealthDegraded, "Drain and Reset"},
		{autoheal.HealthUnknown, "Unknown Error"},
	}
	if len(reports) != len(want) {
		t.Fatalf("%d GPUs", len(reports))
	}
	for i, r := range reports {
		reasons := strings.Join(r.Reasons, "; ")
		if r.GPU.Health != want[i].health || !strings.Contains(reasons, want[i].reason) || (want[i].reason == "") != (reasons == "") {
			t.Errorf("GPU %d is %s because %q, want %s because %q", i, r.GPU.Health, reasons, want[i].health, want[i].reason)
		}
		if r.GPU.Index != i || r.GPU.Simulated {
			t.Errorf("GPU %d: %+v", i, r.GPU)
		}
	}
	g := reports[2].GPU
	if g.PCI != "0000:3a:00.0" || g.MemoryMB != 81559 || g.Model != "NVIDIA H100 80GB HBM3" || g.UUID != "GPU-5c89852e-1111-2222-3333-444444440002" {
		t.Errorf("GPU %+v", g)
	}
}

func TestParseRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"not xml":    "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.",
		"truncated":  `<nvidia_smi_log><gpu id="1"><uuid>GPU-1`,
		"no uuid":    `<nvidia_smi_log><gpu id="1"><uuid>N/A</uuid></gpu></nvidia_smi_log>`,
		"same twice": `<nvidia_smi_log><gpu id="1"><uuid>GPU-1</uuid></gpu><gpu id="2"><uuid>GPU-1</uuid></gpu></nvidia_smi_log>`,
	} {
		if r, err := Parse([]byte(text)); err == nil {
			t.Errorf("%s: parsed as %+v", name, r)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`<nvidia_smi_log><driver_version>575</driver_version><gpu id="00000000:3B:00.0"><uuid>GPU-1</uuid>` +
		`<gpu_recovery_action>Reset</gpu_recovery_action><fb_memory_usage><total>81559 MiB</total></fb_memory_usage></gpu></nvidia_smi_log>`))
	f.Fuzz(func(t *testing.T, data []byte) {
		reports, err := Parse(data)
		if err != nil && reports != nil {
			t.Error("reports beside an error")
		}
	})
}

func TestProbeNeverTwiceAtOnce(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "started")
	script := filepath.Join(t.TempDir(), "nvidia-smi")
	// Ends only when killed: cat opens the pipe that nobody writes.
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho x >>'"+fifo+"'\nexec sleep 1000\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	p := NewProber([]string{script}, &impatient{})
	for range 3 {
		if _, _, err := p.Probe(ctx); !errors.Is(err, ErrHung) {
			t.Fatalf("probe: %v", err)
		}
		p.mu.Lock()
		p.running = true // as if the child could not be killed
		p.mu.Unlock()
	}
	if p.Hung() != 3 {
		t.Errorf("%d hung probes", p.Hung())
	}
}

// impatient has timers that fire at once.
type impatient struct{ clock.Real }

func (impatient) NewTimer(time.Duration) clock.Timer { return clock.Real{}.NewTimer(0) }

func TestProbeAnswers(t *testing.T) {
	script := filepath.Join(t.TempDir(), "nvidia-smi")
	fixture, err := filepath.Abs("testdata/h100x8.xml")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(script, []byte("#!/bin/sh\nexec cat '"+fixture+"'\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	reports, raw, err := NewProber([]string{script}, clock.Real{}).Probe(context.Background())
	if err != nil || len(reports) != 8 || len(raw) == 0 {
		t.Errorf("%d reports, %d bytes, %v", len(reports), len(raw), err)
	}
}

func TestSimulate(t *testing.T) {
	list, err := Simulate("8:H100", "n1")
	if err != nil || len(list) != 8 {
		t.Fatalf("%d, %v", len(list), err)
	}
	other, _ := Simulate("8:H100", "n2")
	for i, g := range list {
		if !g.Simulated || !strings.HasPrefix(string(g.UUID), "GPU-SIM-") || g.Model != "H100" || g.UUID == other[i].UUID {
			t.Errorf("%+v", g)
		}
	}
	for _, bad := range []string{"", "x", "-1", "65", "1.5"} {
		if _, err := Simulate(bad, "n1"); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}
