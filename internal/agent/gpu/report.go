package gpu

import (
	"encoding/xml"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"autoheal.dev/autoheal"
)

// Report is what nvidia-smi said of one GPU and what it means.
type Report struct {
	GPU     autoheal.GPU
	Reasons []string // why Health is not ok
	Serial  string
	Driver  string
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
		health, reasons := g.health()
		reports = append(reports, Report{
			GPU: autoheal.GPU{
				UUID: autoheal.GPUID(g.UUID), Index: i, PCI: normalPCI(g.ID), Model: strings.TrimSpace(g.Model), Vendor: "nvidia",
				MemoryMB: mebibytes(g.MemoryTotal), Health: health,
			},
			Reasons: reasons, Serial: g.Serial, Driver: l.Driver,
		})
	}
	return reports, nil
}

// health weighs the worst statement. A statement that cannot be read is no statement; that none can be read on a GPU
// that answers otherwise is ok, as on models without ECC.
func (g *smiGPU) health() (autoheal.Health, []string) {
	var failed, degraded []string
	check := func(to *[]string, bad bool, reason string) {
		if bad {
			*to = append(*to, reason)
		}
	}
	switch action := strings.ToLower(g.Recovery); action {
	case "", "none", "n/a", "[n/a]":
	case "reset", "reboot":
		failed = append(failed, "the driver asks for a "+action)
	default: // drain p2p, drain and reset, and what later drivers add
		degraded = append(degraded, "the driver asks for: "+g.Recovery)
	}
	check(&failed, yes(g.ResetRequired), "a reset is required")
	check(&degraded, yes(g.DrainAdvised), "drain and reset are recommended")
	check(&failed, yes(g.RemapFailure), "row remapping failed")
	check(&failed, yes(g.Unrepairable), "memory is unrepairable")
	check(&failed, yes(g.SRAMThreshold), "the SRAM error threshold is exceeded")
	check(&degraded, yes(g.RemapPending), "row remapping is pending")
	check(&degraded, yes(g.RetirePending), "page retirement is pending")
	check(&degraded, yes(g.ChannelPending), "a channel repair is pending")
	check(&degraded, yes(g.TPCPending), "a TPC repair is pending")
	sram := count(g.VolatileSRAM) + count(g.VolatileParity) + count(g.VolatileSECDED)
	check(&degraded, count(g.VolatileDRAM) > 0, fmt.Sprintf("%d uncorrectable DRAM errors", count(g.VolatileDRAM)))
	check(&degraded, sram > 0, fmt.Sprintf("%d uncorrectable SRAM errors", sram))
	for _, text := range []string{g.PerfState, g.MemoryTotal, g.Model} {
		if strings.Contains(strings.ToLower(text), "requires reset") {
			failed = append(failed, "it does not answer: "+text)
			break
		}
	}
	switch {
	case len(failed) > 0:
		return autoheal.HealthFailed, append(failed, degraded...)
	case len(degraded) > 0:
		return autoheal.HealthDegraded, degraded
	case strings.Contains(g.PerfState, "Unknown Error") || strings.Contains(g.MemoryTotal, "Unknown Error"):
		return autoheal.HealthUnknown, []string{"the driver cannot read it: Unknown Error"}
	}
	return autoheal.HealthOK, nil
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
