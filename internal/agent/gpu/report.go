package gpu

import (
	"encoding/xml"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"autoheal.dev/autoheal"
)

// Report is what nvidia-smi said of one GPU and what it means.
type Report struct {
	GPU     autoheal.GPU
	Reasons []string // why Health is not ok
	Minor   int      // N of /dev/nvidiaN; -1 where it is not told
}

// smiLog is the part of `nvidia-smi -q -x` (nvidia_smi_log, DTD v12 and v13) that is read. Values are texts: any of
// them may be "N/A", "[N/A]", "Unknown Error" or "GPU requires reset".
type smiLog struct {
	XMLName xml.Name `xml:"nvidia_smi_log"`
	Driver  string   `xml:"driver_version"`
	GPUs    []smiGPU `xml:"gpu"`
}

type smiGPU struct {
	ID          string `xml:"id,attr"`
	Model       string `xml:"product_name"`
	UUID        string `xml:"uuid"`
	Serial      string `xml:"serial"`
	Minor       string `xml:"minor_number"`
	VBIOS       string `xml:"vbios_version"`
	GSP         string `xml:"gsp_firmware_version"`
	PerfState   string `xml:"performance_state"`
	MemoryTotal string `xml:"fb_memory_usage>total"`

	// Recovery is the driver's own verdict (NVML nvmlDeviceGpuRecoveryAction): None, Reset, Reboot, Drain P2P, Drain and
	// Reset. Drivers before 565 have ResetRequired and DrainAdvised instead.
	Recovery      string `xml:"gpu_recovery_action"`
	ResetRequired string `xml:"gpu_reset_status>reset_required"`
	DrainAdvised  string `xml:"gpu_reset_status>drain_and_reset_recommended"`

	// NVIDIA GPU Memory Error Management: a pending remap or retirement takes effect with the next reset; a failure, or an
	// exceeded SRAM threshold, meets the criteria for replacement.
	RemapPending   string `xml:"remapped_rows>remapped_row_pending"`
	RemapFailure   string `xml:"remapped_rows>remapped_row_failure"`
	RetirePending  string `xml:"retired_pages>pending_retirement"`
	SRAMThreshold  string `xml:"ecc_errors>aggregate>sram_threshold_exceeded"`
	Unrepairable   string `xml:"ecc_errors>unrepairable_memory"`
	ChannelPending string `xml:"ecc_errors>channel_repair_pending"`
	TPCPending     string `xml:"ecc_errors>tpc_repair_pending"`

	// Uncorrectable errors since the driver was loaded: contained or not, something ran on wrong data.
	VolatileDRAM   string `xml:"ecc_errors>volatile>dram_uncorrectable"`
	VolatileSRAM   string `xml:"ecc_errors>volatile>sram_uncorrectable"`
	VolatileParity string `xml:"ecc_errors>volatile>sram_uncorrectable_parity"`
	VolatileSECDED string `xml:"ecc_errors>volatile>sram_uncorrectable_secded"`
}

// Parse reads the output of `nvidia-smi -q -x`. GPUs are in nvidia-smi's order, which is by PCI address; their index in
// it is what CUDA_VISIBLE_DEVICES means under CUDA_DEVICE_ORDER=PCI_BUS_ID.
func Parse(data []byte) ([]Report, error) {
	var l smiLog
	if err := xml.Unmarshal(data, &l); err != nil {
		return nil, fmt.Errorf("read nvidia-smi report: %w", err)
	}
	reports := make([]Report, 0, len(l.GPUs))
	seen := map[string]bool{}
	for i, g := range l.GPUs {
		if !strings.HasPrefix(g.UUID, "GPU-") || seen[g.UUID] {
			return nil, fmt.Errorf("read nvidia-smi report: GPU %d has the UUID %q", i, g.UUID)
		}
		seen[g.UUID] = true
		health, action, reasons := g.health()
		reports = append(reports, Report{
			GPU: autoheal.GPU{
				UUID: autoheal.GPUID(g.UUID), Index: i, PCI: normalPCI(g.ID), Model: strings.TrimSpace(g.Model), Vendor: "nvidia",
				MemoryMB: mebibytes(g.MemoryTotal), Health: health,
				Serial: told(g.Serial), Driver: told(l.Driver), Firmware: g.firmware(), Action: action,
			},
			Reasons: reasons, Minor: g.minor(),
		})
	}
	return reports, nil
}

// statements are what a report says of one GPU.
type statements struct {
	failed, degraded []string
	action           autoheal.Advice
}

// advices are what can be asked for, the least first.
var advices = []autoheal.Advice{"", autoheal.AdviceRestartApp, autoheal.AdviceResetGPU, autoheal.AdviceRebootNode, autoheal.AdviceReplaceHW}

// Worse returns the one of two advices that asks for more.
func Worse(a, b autoheal.Advice) autoheal.Advice {
	if slices.Index(advices, b) > slices.Index(advices, a) {
		return b
	}
	return a
}

func (s *statements) failedIf(bad bool, action autoheal.Advice, reason string) {
	if bad {
		s.failed = append(s.failed, reason)
		s.action = Worse(s.action, action)
	}
}

func (s *statements) degradedIf(bad bool, action autoheal.Advice, reason string) {
	if bad {
		s.degraded = append(s.degraded, reason)
		s.action = Worse(s.action, action)
	}
}

// recovery takes over the driver's own verdict.
func (s *statements) recovery(verdict string) {
	switch action := strings.ToLower(verdict); action {
	case "", "none", "n/a", "[n/a]":
	case "reset":
		s.failedIf(true, autoheal.AdviceResetGPU, "the driver asks for a reset")
	case "reboot":
		s.failedIf(true, autoheal.AdviceRebootNode, "the driver asks for a reboot")
	default: // drain p2p, drain and reset, and what later drivers add
		s.degradedIf(true, autoheal.AdviceResetGPU, "the driver asks for: "+verdict)
	}
}

// health weighs the worst statement, and says what all of them ask for. A statement that cannot be read is no statement;
// that none can be read on a GPU that answers otherwise is ok, as on models without ECC.
func (g *smiGPU) health() (autoheal.Health, autoheal.Advice, []string) {
	const reset, replace = autoheal.AdviceResetGPU, autoheal.AdviceReplaceHW
	s := statements{}
	s.recovery(g.Recovery)
	s.failedIf(yes(g.ResetRequired), reset, "a reset is required")
	s.degradedIf(yes(g.DrainAdvised), reset, "drain and reset are recommended")
	s.failedIf(yes(g.RemapFailure), replace, "row remapping failed")
	s.failedIf(yes(g.Unrepairable), replace, "memory is unrepairable")
	s.failedIf(yes(g.SRAMThreshold), replace, "the SRAM error threshold is exceeded")
	s.degradedIf(yes(g.RemapPending), reset, "row remapping is pending")
	s.degradedIf(yes(g.RetirePending), reset, "page retirement is pending")
	s.degradedIf(yes(g.ChannelPending), reset, "a channel repair is pending")
	s.degradedIf(yes(g.TPCPending), reset, "a TPC repair is pending")
	sram := count(g.VolatileSRAM) + count(g.VolatileParity) + count(g.VolatileSECDED)
	s.degradedIf(count(g.VolatileDRAM) > 0, "", fmt.Sprintf("%d uncorrectable DRAM errors", count(g.VolatileDRAM)))
	s.degradedIf(sram > 0, "", fmt.Sprintf("%d uncorrectable SRAM errors", sram))
	for _, text := range []string{g.PerfState, g.MemoryTotal, g.Model} {
		if strings.Contains(strings.ToLower(text), "requires reset") {
			s.failedIf(true, reset, "it does not answer: "+text)
			break
		}
	}
	switch {
	case len(s.failed) > 0:
		return autoheal.HealthFailed, s.action, append(s.failed, s.degraded...)
	case len(s.degraded) > 0:
		return autoheal.HealthDegraded, s.action, s.degraded
	case strings.Contains(g.PerfState, "Unknown Error") || strings.Contains(g.MemoryTotal, "Unknown Error"):
		return autoheal.HealthUnknown, "", []string{"the driver cannot read it: Unknown Error"}
	}
	return autoheal.HealthOK, "", nil
}

// told returns a text, or nothing where the driver says in words that it does not tell.
func told(s string) string {
	s = strings.TrimSpace(s)
	if s == "N/A" || strings.HasPrefix(s, "[") || strings.Contains(s, "Unknown Error") || strings.Contains(s, "requires reset") {
		return ""
	}
	return s
}

func (g *smiGPU) firmware() string {
	var out []string
	if v := told(g.VBIOS); v != "" {
		out = append(out, "VBIOS "+v)
	}
	if v := told(g.GSP); v != "" {
		out = append(out, "GSP "+v)
	}
	return strings.Join(out, ", ")
}

func (g *smiGPU) minor() int {
	n, err := strconv.Atoi(strings.TrimSpace(g.Minor))
	if err != nil {
		return -1
	}
	return n
}

func yes(s string) bool { return strings.EqualFold(strings.TrimSpace(s), "yes") }

func count(s string) int64 {
	n, err := strconv.ParseInt(strings.TrimSpace(s), 10, 64)
	if err != nil {
		return 0 // N/A
	}
	return n
}

func mebibytes(s string) int64 {
	number, unit, _ := strings.Cut(strings.TrimSpace(s), " ")
	if unit != "MiB" {
		return 0
	}
	return count(number)
}

// normalPCI turns nvidia-smi's 00000000:3B:00.0 into the kernel's 0000:3b:00.0, under which Xids are logged.
func normalPCI(id string) string {
	domain, rest, ok := strings.Cut(strings.ToLower(strings.TrimSpace(id)), ":")
	if !ok {
		return ""
	}
	if len(domain) == 8 {
		domain = strings.TrimPrefix(domain, "0000")
	}
	return domain + ":" + rest
}

// ErrHung is returned by a probe that did not answer in time, and by each after it while its child is still stuck.
var ErrHung = errors.New("nvidia-smi does not answer")
