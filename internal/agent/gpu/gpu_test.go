package gpu

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

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
		action autoheal.Advice
		reason string
	}{
		{autoheal.HealthOK, "", ""},
		{autoheal.HealthFailed, autoheal.AdviceResetGPU, "the driver asks for a reset"},
		{autoheal.HealthDegraded, autoheal.AdviceResetGPU, "row remapping is pending"},
		{autoheal.HealthFailed, autoheal.AdviceReplaceHW, "row remapping failed"},
		{autoheal.HealthDegraded, "", "3 uncorrectable DRAM errors"},
		{autoheal.HealthFailed, autoheal.AdviceReplaceHW, "SRAM error threshold"},
		{autoheal.HealthDegraded, autoheal.AdviceResetGPU, "Drain and Reset"},
		{autoheal.HealthUnknown, "", "Unknown Error"},
	}
	if len(reports) != len(want) {
		t.Fatalf("%d GPUs", len(reports))
	}
	for i, r := range reports {
		reasons := strings.Join(r.Reasons, "; ")
		if r.GPU.Health != want[i].health || !strings.Contains(reasons, want[i].reason) || (want[i].reason == "") != (reasons == "") {
			t.Errorf("GPU %d is %s because %q, want %s because %q", i, r.GPU.Health, reasons, want[i].health, want[i].reason)
		}
		if r.GPU.Index != i || r.GPU.Simulated || r.Minor != i || r.GPU.Action != want[i].action {
			t.Errorf("GPU %d: %+v", i, r.GPU)
		}
	}
	g := reports[2].GPU
	if g.Serial != "1650123000002" || g.Driver != "575.51.02" || g.Firmware != "VBIOS 96.00.89.00.01, GSP 575.51.02" {
		t.Errorf("GPU %+v", g)
	}
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

// script makes a program of these lines that stands for nvidia-smi.
func script(t *testing.T, lines string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "nvidia-smi")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+lines+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// A child that hangs is counted, and no other one is started beside it.
func TestProbeNeverTwiceAtOnce(t *testing.T) {
	began := filepath.Join(t.TempDir(), "began")
	p := NewProber(script(t, "echo x >>'"+began+"'\nexec sleep 1000"), &impatient{})
	stuck := &child{began: p.clk.Now(), done: make(chan struct{})}
	p.child = stuck // which cannot be killed
	for n := range 3 {
		if _, _, err := p.Probe(t.Context()); !errors.Is(err, ErrHung) || p.Hung() != n+1 {
			t.Fatalf("probe %d: %v, %d hung", n, err, p.Hung())
		}
	}
	if _, _, err := p.Look(t.Context()); !errors.Is(err, ErrHung) || p.Hung() != 3 {
		t.Errorf("a look: %v, %d hung", err, p.Hung())
	}
	stuck.began = stuck.began.Add(-2 * ProbeTimeout)
	if _, _, err := p.Probe(t.Context()); !errors.Is(err, ErrHung) || p.Hung() != 4 {
		t.Errorf("after its time: %v, %d hung", err, p.Hung())
	}
	if _, err := os.Stat(began); err == nil {
		t.Error("another child was started")
	}
	p.child = nil // the kernel has let it go
	if _, _, err := p.Probe(t.Context()); !errors.Is(err, ErrHung) || p.Hung() != 5 {
		t.Errorf("one that can be killed: %v, %d hung", err, p.Hung())
	}
}

// Who asks while a child runs gets its answer.
func TestProbeShared(t *testing.T) {
	dir := t.TempDir()
	fixture, err := filepath.Abs("testdata/h100x8.xml")
	if err != nil {
		t.Fatal(err)
	}
	for _, pipe := range []string{"/ready", "/go"} {
		if err := unix.Mkfifo(dir+pipe, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := NewProber(script(t, "echo x >>'"+dir+"/began'\necho >'"+dir+"/ready'\nread x <'"+dir+"/go'\nexec cat '"+fixture+"'"), clock.Real{})
	looking, gone := context.WithCancel(t.Context())
	answers := make(chan int, 2)
	ask := func(ctx context.Context, f func(context.Context) ([]Report, []byte, error)) {
		reports, _, _ := f(ctx) // none with an error
		answers <- len(reports)
	}
	go ask(looking, p.Look)
	if _, err := os.ReadFile(dir + "/ready"); err != nil {
		t.Fatal(err)
	}
	go ask(t.Context(), p.Probe)
	gone()
	if n := <-answers; n != 0 {
		t.Errorf("who went away got %d reports", n)
	}
	if err := os.WriteFile(dir+"/go", []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if n := <-answers; n != 8 {
		t.Errorf("%d reports", n)
	}
	if b, err := os.ReadFile(dir + "/began"); err != nil || string(b) != "x\n" {
		t.Errorf("%q children began, %v", b, err)
	}
}

// impatient has timers that fire at once.
type impatient struct{ clock.Real }

func (impatient) NewTimer(time.Duration) clock.Timer { return clock.Real{}.NewTimer(0) }

func TestProbeAnswers(t *testing.T) {
	fixture, err := filepath.Abs("testdata/h100x8.xml")
	if err != nil {
		t.Fatal(err)
	}
	reports, raw, err := NewProber(script(t, "exec cat '"+fixture+"'"), clock.Real{}).Probe(context.Background())
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
