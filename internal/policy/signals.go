package policy

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"autoheal.dev/autoheal/internal/signal"
)

// builtin is the program's own catalogue, compiled once: it does not change, and many may use it at once.
var builtin = sync.OnceValues(signal.Builtin)

// Catalogue compiles the catalogue of signals with the rules and Xid actions of this policy. It is work where the policy
// has any: keep the result.
func (s Signals) Catalogue() (*signal.Catalogue, error) {
	c, err := builtin()
	if err != nil || len(s.Rules)+len(s.Xid) == 0 {
		return c, err
	}
	return c.With(signal.Overrides{Rules: s.Rules, Xid: s.Xid})
}

// rulesCodec reads a site's own signal rules and has the catalogue check them: keys, patterns, samples.
var rulesCodec = checkedRules(listCodec(rawCodec))

func checkedRules(list codec[[]map[string]any]) codec[[]map[string]any] {
	read := list.read
	list.read = func(r *reader, key string, n *node) ([]map[string]any, bool) {
		rules, ok := read(r, key, n)
		if !ok || len(rules) == 0 {
			return rules, ok
		}
		_, err := Signals{Rules: rules}.Catalogue()
		problems, isList := errors.AsType[signal.RuleProblems](err)
		if err != nil && !isList {
			r.bad(n, key, err.Error(), "this program is damaged: install it anew")
			return nil, false
		}
		for _, p := range problems {
			at := n.items[p.Index].at(p.Path)
			r.bad(at, join(fmt.Sprintf("%s[%d]", key, p.Index), p.Path), p.Detail, p.Remedy)
		}
		return rules, len(problems) == 0
	}
	return list
}

// at returns the node that a path such as "samples[2].text" leads to, or as near to it as the document goes.
func (n *node) at(path string) *node {
	for part := range strings.SplitSeq(path, ".") {
		name, index, indexed := strings.Cut(strings.TrimSuffix(part, "]"), "[")
		next := n.get(name)
		if next == nil {
			return n
		}
		n = next
		if i, err := strconv.Atoi(index); indexed && err == nil && i < len(n.items) {
			n = n.items[i]
		}
	}
	return n
}
