package signal

import (
	"slices"
	"strings"

	"autoheal.dev/autoheal"
)

// searchWords are what people search a failure by. A recognised line is found by the words of its failure, whatever it says
// itself: the raw texts of one failure have few words in common (behaviour H2).
var searchWords = map[autoheal.Failure][]string{
	autoheal.FailureGPU:     {"GPU failure", "Xid error", "GPU has fallen off"},
	autoheal.FailureNetwork: {"network failure", "NCCL timeout", "connection refused"},
	autoheal.FailureOOMHost: {"out of memory", "OOM killed"},
	autoheal.FailureOOMGPU:  {"out of memory", "CUDA out of memory"},
	autoheal.FailureDisk:    {"disk failure"},
	autoheal.FailureHostHW:  {"hardware error"},
	autoheal.FailureHostSW:  {"kernel error"},
	autoheal.FailureApp:     {"application error"},
	autoheal.FailureCrash:   {"crash"},
}

// Words are those by which a recognised line is found: of its failure, its code and its name. A benign line has none.
func (m Match) Words() []string {
	if m.Benign || m.Rule == nil || m.Rule.Context {
		return nil
	}
	out := slices.Clone(searchWords[m.Failure])
	if n, ok := strings.CutPrefix(m.Code, "nvidia/xid/"); ok {
		if m.Failure != autoheal.FailureGPU {
			out = append(out, "Xid error")
		}
		out = append(out, "Xid "+n)
	}
	out = append(out, m.Code)
	if m.Name != "" {
		out = append(out, m.Name)
	}
	return out
}

// NamesFailure reports whether a phrase names a failure: searched for, it means the lines that are recognised as such and
// not those that happen to contain its words.
func NamesFailure(phrase string) bool {
	for _, of := range searchWords {
		if slices.ContainsFunc(of, func(w string) bool { return strings.EqualFold(w, phrase) }) {
			return true
		}
	}
	return false
}
