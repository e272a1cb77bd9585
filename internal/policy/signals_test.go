package policy

import (
	"strings"
	"testing"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/signal"
)

// TestSignalRulesAreCheckedAtLoad names file, line and column of what is wrong with a site's own rule.
func TestSignalRulesAreCheckedAtLoad(t *testing.T) {
	for _, tt := range []struct{ name, rule, want string }{
		{"unknown key", `{id: site/x, literals: [some words], failure: disk, action: none, colour: red}`, `c.yaml:4:83: autoHeal.signals.rules[0].colour: unknown key`},
		{"bad pattern", `{id: site/x, literals: [some words], failure: disk, action: none, pattern: "("}`, `c.yaml:4:84: autoHeal.signals.rules[0].pattern: error parsing regexp`},
		{"bad action", `{id: site/x, literals: [some words], failure: disk, action: explode}`, `c.yaml:4:69: autoHeal.signals.rules[0].action: want one of restart_app`},
		{"sample does not match", `{id: site/x, literals: [some words], failure: disk, action: none, samples: [other]}`, `c.yaml:4:85: autoHeal.signals.rules[0].samples[0]: the rule does not match its own sample`},
		{"look-alike matches", `{id: site/x, literals: [some words], failure: disk, action: none, lookalikes: [no, some words here]}`, `c.yaml:4:92: autoHeal.signals.rules[0].lookalikes[1]: the rule matches what it must not`},
		{"no such table", `{id: site/x, literals: [some words], failure: disk, action: none, table: x, by: n, pattern: "(?P<n>s)"}`, `autoHeal.signals.rules[0].table: there is no table "x"`},
		{"short word", `{id: site/x, literals: [abc], failure: disk, action: none}`, `autoHeal.signals.rules[0].literals[0]: "abc" cannot be looked for`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Load(Source{Path: "c.yaml", Data: []byte("autoHeal:\n  signals:\n    rules:\n      - " + tt.rule + "\n")})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

// TestSignalRulesOverride adds a rule, changes one that is built in, and changes what an Xid asks for.
func TestSignalRulesOverride(t *testing.T) {
	p := mustLoad(t, Source{Data: []byte(`
autoHeal:
  signals:
    rules:
      - {id: site/fan, kind: kernel, literals: [fan tray failed], failure: host_hw, action: replace_hw, because: Our fans.}
      - {id: disk/nvme_timeout, action: replace_hw}
    xid: {"31": reset_gpu}
`)}).Policy
	c, err := p.Signals.Catalogue()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		line    string
		failure autoheal.Failure
		action  autoheal.Advice
	}{
		{"fan tray failed: 3", autoheal.FailureHostHW, autoheal.AdviceReplaceHW},
		{"nvme nvme0: I/O 512 QID 7 timeout, aborting", autoheal.FailureDisk, autoheal.AdviceReplaceHW},
		{"NVRM: Xid (PCI:0000:04:00): 31, pid=12, name=x, MMU Fault", autoheal.FailureGPU, autoheal.AdviceResetGPU},
		{"NVRM: Xid (PCI:0000:04:00): 13, pid=12, name=x, Graphics Exception", autoheal.FailureApp, autoheal.AdviceRestartApp},
	} {
		m, ok := c.Match([]byte(tt.line), signal.KindKernel)
		if !ok || m.Failure != tt.failure || m.Action != tt.action {
			t.Errorf("%q: %s %s", tt.line, m.Failure, m.Action)
		}
	}
}
