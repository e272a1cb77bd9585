package signal

import (
	"strings"

	"autoheal.dev/autoheal"
)

// SearchWords are phrases by which people look for a line like this, beside what it says itself (behaviour H2): what it is
// called, and what its failure is called everywhere. A search that knows them finds the torch watchdog by "NCCL timeout".
func (m Match) SearchWords() []string {
	var out []string
	if m.Benign {
		return out
	}
	family, _, _ := strings.Cut(m.Code, "/")
	switch {
	case under(m.Code, "nvidia/xid"):
		out = append(out, "Xid error "+strings.TrimPrefix(m.Code, "nvidia/xid/"))
	case under(m.Code, "nvidia/sxid"):
		out = append(out, "SXid error "+strings.TrimPrefix(m.Code, "nvidia/sxid/"))
	case m.Failure == autoheal.FailureNetwork && (family == "nccl" || family == "pytorch"):
		out = append(out, "NCCL timeout")
	}
	if m.Name != "" {
		out = append(out, m.Name)
	}
	return append(out, strings.ReplaceAll(m.Code, "_", " "), strings.ReplaceAll(string(m.Failure), "_", " "))
}
