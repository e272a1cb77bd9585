package signal

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"

	"autoheal.dev/autoheal"
)

// nvlinkRow is one line of NVIDIA's decoding table for the Xids of fifth-generation NVLink.
type nvlinkRow struct {
	xid         int
	units       []string
	masks       [2]bitPattern // of drivers from R575 on, and before
	status      uint32
	action      string // none, reset_gpu or xid154: wait for the recovery action that Xid 154 states
	investigate string
	fatal       bool
}

// bitPattern matches a register: the bits under mask must be value.
type bitPattern struct{ mask, value uint32 }

func (p bitPattern) matches(v uint32) bool { return v&p.mask == p.value }

// parseBits reads 32 characters 0, 1 or -, highest bit first.
func parseBits(s string) (bitPattern, error) {
	var p bitPattern
	if len(s) != 32 {
		return p, fmt.Errorf("%q does not have 32 bits", s)
	}
	for _, c := range s {
		p.mask, p.value = p.mask<<1, p.value<<1
		switch c {
		case '1':
			p.mask, p.value = p.mask|1, p.value|1
		case '0':
			p.mask |= 1
		case '-':
		default:
			return p, fmt.Errorf("%q has a bit %q", s, c)
		}
	}
	return p, nil
}

// readNVLink reads catalogue/tables/nvlink5.yaml. The order of its rows counts.
func readNVLink() ([]nvlinkRow, error) {
	data, err := catalogueFiles.ReadFile("catalogue/tables/nvlink5.yaml")
	if err != nil {
		return nil, fmt.Errorf("read the catalogue: %w", err)
	}
	var file struct {
		Source string     `yaml:"source"`
		Rows   [][]string `yaml:"rows"`
	}
	if err := yaml.UnmarshalWithOptions(data, &file, yaml.DisallowUnknownField()); err != nil {
		return nil, fmt.Errorf("read table nvlink5: %w", err)
	}
	var out []nvlinkRow
	for i, row := range file.Rows {
		r, err := parseNVLinkRow(row)
		if err != nil {
			return nil, fmt.Errorf("read table nvlink5: row %d: %w", i, err)
		}
		out = append(out, r)
	}
	return out, nil
}

// parseNVLinkRow reads xid, units, bits of new drivers, bits of old ones, error status, severity, action, investigation.
func parseNVLinkRow(row []string) (nvlinkRow, error) {
	var r nvlinkRow
	if len(row) != 8 {
		return r, fmt.Errorf("%d columns, want 8", len(row))
	}
	var err error
	if r.xid, err = strconv.Atoi(row[0]); err != nil {
		return r, err
	}
	r.units = strings.Split(row[1], "/")
	for i := range r.masks {
		if r.masks[i], err = parseBits(row[2+i]); err != nil {
			return r, err
		}
	}
	status, err := strconv.ParseUint(row[4], 0, 32)
	if err != nil {
		return r, err
	}
	r.status = uint32(status)
	r.fatal = strings.HasSuffix(row[5], "fatal") && row[5] != "non_fatal"
	r.action, r.investigate = row[6], row[7]
	return r, nil
}

// decodeNVLink finds what the registers of a line mean: the first row of the Xid whose unit, error status and bits
// agree. Which of the two layouts a driver uses is not in the line, so the newer one is tried first. Without a row
// there is no action: an event that nobody explains repairs nothing.
func decodeNVLink(rows []nvlinkRow, f map[string]string) Meaning {
	xid, _ := strconv.Atoi(f["code"])
	intr, err1 := strconv.ParseUint(f["intrinfo"], 0, 32)
	status, err2 := strconv.ParseUint(f["errorstatus"], 0, 32)
	unknown := Meaning{
		Failure: autoheal.FailureGPU, Action: autoheal.AdviceNone, Severity: Warning,
		Because: "NVIDIA's table has no row for these registers, so nothing is done about it alone.",
	}
	if err1 != nil || err2 != nil {
		return unknown
	}
	f["subcode"] = strconv.FormatUint(intr>>20&0x3f, 10)
	unit := nvlinkUnit(f["unit"])
	for layout := range 2 {
		for _, r := range rows {
			if r.xid == xid && r.status == uint32(status) && r.masks[layout].matches(uint32(intr)) && r.hasUnit(unit) {
				f["investigate"] = r.investigate
				return r.meaning()
			}
		}
	}
	return unknown
}

func nvlinkUnit(s string) string {
	return strings.ReplaceAll(strings.ToUpper(s), "-", "_")
}

// hasUnit compares names, each of which may be several aliases between slashes.
func (r nvlinkRow) hasUnit(unit string) bool {
	for name := range strings.SplitSeq(unit, "/") {
		if slices.Contains(r.units, name) {
			return true
		}
	}
	return false
}

func (r nvlinkRow) meaning() Meaning {
	m := Meaning{Failure: autoheal.FailureGPU, Action: autoheal.AdviceNone, Severity: Warning}
	what := strings.ReplaceAll(r.investigate, "_", " ")
	switch {
	case r.action == "reset_gpu":
		m.Action, m.Severity = autoheal.AdviceResetGPU, Critical
		m.Because = "NVIDIA's table asks for a GPU reset for this sub-code; then: " + what + "."
	case r.action == "xid154":
		m.Because = "The action is the one that Xid 154 states for the same GPU; until then nothing is done."
	case r.investigate == "ignore":
		m.Failure, m.Severity, m.Benign = autoheal.FailureNone, Info, true
		m.Because = "NVIDIA's table says to ignore this sub-code."
	default:
		m.Because = "The link recovered: no action now; if it repeats: " + what + "."
	}
	if r.fatal {
		m.Severity = Critical
	}
	return m
}
