package policy

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// problems loads a file and returns its problems, one a line.
func problems(t *testing.T, src Source) string {
	t.Helper()
	l, err := Load(src)
	if err == nil {
		t.Fatalf("accepted: %s", l.Policy.YAML())
	}
	var ps Problems
	if !errors.As(err, &ps) {
		t.Fatalf("error is %T, want Problems: %v", err, err)
	}
	return ps.Error()
}

// TestProblemsOfAFile: what is wrong is named with its place, its key and a remedy.
func TestProblemsOfAFile(t *testing.T) {
	for _, tc := range []struct{ name, file, want string }{
		{"unknown key", "autoHeal:\n  node:\n    offlineGracPeriod: 2m\n", "c.yaml:3:5: autoHeal.node.offlineGracPeriod: unknown key (did you mean offlineGracePeriod?)"},
		{"unknown section", "autoheal: {}\n", "c.yaml:1:1: autoheal: unknown key (did you mean autoHeal?)"},
		{"key of another section", "autoHeal:\n  maxRestarts: 3\n", "c.yaml:2:3: autoHeal.maxRestarts: unknown key (it belongs at autoHeal.workload.maxRestarts)"},
		{"section at the top", "node: {}\n", "c.yaml:1:1: node: unknown key (it belongs at autoHeal.node)"},
		{"no unit", "autoHeal: {node: {settle: 2}}\n", "c.yaml:1:27: autoHeal.node.settle: the duration 2 has no unit (write 2s, 2m or 2h)"},
		{"quoted without unit", `autoHeal: {node: {settle: "2"}}`, `c.yaml:1:27: autoHeal.node.settle: "2" is not a duration (write a number with a unit, for example 90s, 5m, 1h30m or 7d)`},
		{"negative duration", "autoHeal: {node: {settle: -2s}}", `c.yaml:1:27: autoHeal.node.settle: "-2s" is not a duration (write a number with a unit, for example 90s, 5m, 1h30m or 7d)`},
		{"zero where it means nothing", "autoHeal: {node: {probeInterval: 0s}}", "c.yaml:1:34: autoHeal.node.probeInterval: 0s is less than 1ms (write at least 1ms)"},
		{"too long", "state: {incidentsKeep: 9999d}", `c.yaml:1:24: state.incidentsKeep: "9999d" is longer than ten years (write a number with a unit, for example 90s, 5m, 1h30m or 7d)`},
		{"wrong type", "autoHeal:\n  enabled: maybe\n", `c.yaml:2:12: autoHeal.enabled: want true or false, got "maybe" (write true or false, without quotes)`},
		{"quoted bool", "autoHeal:\n  enabled: \"true\"\n", `c.yaml:2:12: autoHeal.enabled: want true or false, got "true" (write true or false, without quotes)`},
		{"no value", "autoHeal:\n  enabled:\n  shadow: true\n", "c.yaml:2:11: autoHeal.enabled: want true or false, got nothing (write true or false, without quotes)"},
		{"octal", "autoHeal: {workload: {maxRestarts: 010}}", `c.yaml:1:36: autoHeal.workload.maxRestarts: want a whole number from 0 to 1000, got "010" (for example 3)`},
		{"list for scalar", "autoHeal: {workload: {maxRestarts: [3]}}", `c.yaml:1:36: autoHeal.workload.maxRestarts: want a whole number from 0 to 1000, got a list (for example 3)`},
		{"scalar for section", "autoHeal:\n  rung: 3\n", `c.yaml:2:9: autoHeal.rung: want a map of settings, got "3" (keys here are attempts)`},
		{"percentage without sign", "autoHeal: {storm: {fraction: 0.5}}", `c.yaml:1:30: autoHeal.storm.fraction: "0.5" is not a percentage above 0% and up to 100% (write the sign, for example 50%)`},
		{"share of a limit without sign", "autoHeal: {budgets: {disrupt: {concurrent: 0.05}}}", `c.yaml:1:44: autoHeal.budgets.disrupt.concurrent: want a whole number, or a percentage with its sign, got "0.05" (for example 2 or 5%)`},
		{"over 100%", "autoHeal: {budgets: {disrupt: {concurrent: 101%}}}", `c.yaml:1:44: autoHeal.budgets.disrupt.concurrent: want a whole number, or a percentage with its sign, got "101%" (for example 2 or 5%)`},
		{"size", "state: {logBytes: 1GB}", `c.yaml:1:19: state.logBytes: "1GB" is not a size (write a whole number with a unit of B, KiB, MiB, GiB or TiB, for example 512MiB)`},
		{"small size", "state: {logBytes: 1KiB}", `c.yaml:1:19: state.logBytes: 1KiB is less than 1MiB (write at least 1MiB)`},
		{"memory", "autoHeal: {workload: {oomMaxMemory: 1500KiB}}", `c.yaml:1:37: autoHeal.workload.oomMaxMemory: 1500KiB is not a whole number of MiB (for example 512GiB)`},
		{"enum", "cluster: {driver: kubernets}", `c.yaml:1:19: cluster.driver: want one of embedded, openclaw, kubernetes, got "kubernets" (did you mean kubernetes?)`},
		{"occurrences", "autoHeal: {transient: {xid: 5 per day}}", `c.yaml:1:29: autoHeal.transient.xid: "5 per day": not a count in a time (write N in TIME, for example 3 in 1h)`},
		{"unknown step", "autoHeal:\n  ladders:\n    crash_loop: [restart, growmemory]\n", `c.yaml:3:27: autoHeal.ladders.crash_loop[1]: want a step, got "growmemory" (did you mean grow_memory?)`},
		{"step of another kind", "autoHeal: {ladders: {resource_exhaustion: [reboot]}}", "c.yaml:1:44: autoHeal.ladders.resource_exhaustion[0]: the step reboot means nothing for resource_exhaustion (its steps are collect, alert_capacity, preempt, scale_down, alert, escalate)"},
		{"repair before migration", "autoHeal: {ladders: {gpu_failure: [reset_gpu, migrate]}}", "c.yaml:1:36: autoHeal.ladders.gpu_failure[0]: reset_gpu before anything was moved away (put migrate or drain before it)"},
		{"step twice", "autoHeal: {ladders: {crash_loop: [restart, restart]}}", "c.yaml:1:44: autoHeal.ladders.crash_loop[1]: the step restart stands twice (name each step once; how often a rung is tried is autoHeal.rung.attempts)"},
		{"empty ladder", "autoHeal: {ladders: {crash_loop: []}}", "c.yaml:1:34: autoHeal.ladders.crash_loop: want a list of at least one step, got a list (the default is [restart, grow_memory, pause, alert]; to only watch, set autoHeal.autonomy.crash_loop: observe)"},
		{"unknown kind", "autoHeal: {ladders: {crashloop: [restart]}}", "c.yaml:1:22: autoHeal.ladders.crashloop: unknown key (did you mean crash_loop?)"},
		{"autonomy name", "autoHeal: {autonomy: {rebot: act}}", `c.yaml:1:23: autoHeal.autonomy.rebot: "rebot" is neither a kind, a step nor a verb (did you mean reboot?)`},
		{"autonomy pair", "autoHeal: {autonomy: {gpu_failure.rebot: act}}", `c.yaml:1:23: autoHeal.autonomy.gpu_failure.rebot: "rebot" is neither a step nor a verb (did you mean reboot?)`},
		{"autonomy of alerts", "autoHeal: {autonomy: {alert: observe}}", `c.yaml:1:23: autoHeal.autonomy.alert: an alert waits for nobody (use autoHeal.alerts.notifyOnRecovery and notifyOnFailure)`},
		{"autonomy word", "autoHeal: {autonomy: {reboot: yes}}", `c.yaml:1:31: autoHeal.autonomy.reboot: want one of observe, suggest, approve, act, got "yes" (write one of these words)`},
		{"backoff word", "autoHeal: {workload: {restartBackoff: linear}}", `c.yaml:1:39: autoHeal.workload.restartBackoff: want one of exponential, constant, none, got "linear" (write one of these words)`},
		{"backoff map", "autoHeal: {workload: {restartBackoff: {initial: 1m, max: 5s}}}", `c.yaml:1:39: autoHeal.workload.restartBackoff: max 5s is less than initial 1m (write a max of at least 1m)`},
		{"backoff key", "autoHeal: {workload: {restartBackoff: {kind: constant, factor: 2}}}", `c.yaml:1:56: autoHeal.workload.restartBackoff.factor: unknown key (a constant backoff takes kind, initial)`},
		{"match of everything", "autoHeal: {classes: {low: {match: [{}]}}}", `c.yaml:1:36: autoHeal.classes.low.match[0]: this would match every workload (say which, for example {labels: "app=vllm"})`},
		{"match glob", "autoHeal: {classes: {low: {match: [{name: 'a['}]}}}", `c.yaml:1:43: autoHeal.classes.low.match[0].name: "a[" is not a pattern (use * for any text, ? for one character, [a-z] for one of several)`},
		{"match labels", "autoHeal: {classes: {low: {match: [{labels: app}]}}}", `c.yaml:1:45: autoHeal.classes.low.match[0].labels: "app": "app" is not k=v, or its key stands twice (write k=v,k=v, for example "app=vllm,tier=prod")`},
		{"maintenance", "autoHeal: {maintenance: [{nodes: n1, from: 2026-01-02T00:00:00Z, to: 2026-01-01T00:00:00Z}]}", "c.yaml:1:26: autoHeal.maintenance[0]: it ends at 2026-01-01T00:00:00Z, not after its start at 2026-01-02T00:00:00Z (swap from and to)"},
		{"maintenance without end", "autoHeal: {maintenance: [{nodes: n1, from: 2026-01-02T00:00:00Z}]}", `c.yaml:1:26: autoHeal.maintenance[0]: to is missing (for example {nodes: "rack=r1", from: "2026-01-31T22:00:00Z", to: "2026-02-01T02:00:00Z"})`},
		{"veto", "autoHeal: {veto: [n1]}", `c.yaml:1:19: autoHeal.veto[0]: "n1" names no subject (write KIND/ID, for example node/n1; kinds are cluster, domain, node, gpu, gang, workload)`},
		{"xid", "autoHeal: {signals: {xid: {x: restart_app}}}", `c.yaml:1:28: autoHeal.signals.xid.x: "x" is not an Xid number (for example "31")`},
		{"listen", "api: {listen: '7433'}", `c.yaml:1:15: api.listen: "7433" is not HOST:PORT (for example 127.0.0.1:7433)`},
		{"receiver", "autoHeal: {alerts: {receivers: [ops@example.org]}}", "c.yaml:1:33: autoHeal.alerts.receivers[0]: this is not a URL (for example slack://TOKEN@CHANNEL or http://alertmanager:9093)"},
		{"duplicate key", "autoHeal:\n  enabled: true\n  enabled: false\n", "c.yaml:3:3: enabled stands here twice, first on line 2 (keep one of them)"},
		{"two documents", "autoHeal: {}\n---\nautoHeal: {}\n", "c.yaml:2:1: a second document (keep one document: remove the line --- here)"},
		{"tag", "autoHeal: {enabled: !!bool true}\n", "c.yaml:1:21: the tag !!bool (write the value without a tag)\nc.yaml:1:21: autoHeal.enabled: want true or false, got nothing (write true or false, without quotes)"},
		{"two documents below each other", "---\nautoHeal: {}\n...\n---\nautoHeal:\n  enabled: true\n", "c.yaml:4:1: a second document (keep one document: remove the line --- here)"},
		{"map for scalar", "autoHeal:\n  enabled:\n    now: true\n", "c.yaml:3:5: autoHeal.enabled: want true or false, got a map (write true or false, without quotes)"},
		{"list at the top", "- a\n", "c.yaml:1:1: want a map of settings, got a list (keys here are autoHeal, cluster, state, api)"},
		{"not text", "\xff\xfe", "c.yaml: not UTF-8 text (save the file as UTF-8)"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := problems(t, Source{Path: "c.yaml", Data: []byte(tc.file)}); got != tc.want {
				t.Errorf("got:\n%s\nwant:\n%s", got, tc.want)
			}
		})
	}
}

// TestSyntaxProblem: what is no YAML at all is one problem with a place.
func TestSyntaxProblem(t *testing.T) {
	got := problems(t, Source{Path: "c.yaml", Data: []byte("autoHeal:\n  node: {settle: 2s\n")})
	if !strings.HasPrefix(got, "c.yaml:2:") || !strings.Contains(got, "not valid YAML: ") {
		t.Errorf("got %q", got)
	}
}

// TestChecksAcrossSettings: each check names the numbers, stands where the value was written and says what to write.
func TestChecksAcrossSettings(t *testing.T) {
	for _, tc := range []struct{ name, file, want string }{
		{"fence", "autoHeal: {fence: {wait: 75s}}", "c.yaml:1:20: autoHeal.fence.wait: selfStop 1m + margin 15s is not less than wait 1m15s: a new copy could start before the old one has stopped (set autoHeal.fence.wait above 1m15s)"},
		{"fence by margin", "autoHeal: {fence: {margin: 30s}}", "c.yaml:1:20: autoHeal.fence.margin: selfStop 1m + margin 30s is not less than wait 1m30s: a new copy could start before the old one has stopped (set autoHeal.fence.wait above 1m30s)"},
		{"poll", "autoHeal: {fence: {selfStop: 16s}}", "c.yaml:1:20: autoHeal.fence.selfStop: a poll that waits probeInterval 5s is more than a quarter of selfStop 16s: a few lost answers would stop workloads (set autoHeal.node.probeInterval to at most 4s, or autoHeal.fence.selfStop to at least 20s)"},
		{"probe timeout", "autoHeal: {node: {probeTimeout: 5s}}", "c.yaml:1:19: autoHeal.node.probeTimeout: probeTimeout 5s is not less than probeInterval 5s: probes would pile up (set autoHeal.node.probeTimeout below 5s)"},
		{"probes in the grace", "autoHeal: {node: {offlineGracePeriod: 14s}}", "c.yaml:1:19: autoHeal.node.offlineGracePeriod: three probes of 5s take longer than the grace 14s: one lost answer could take a node down (set autoHeal.node.offlineGracePeriod to at least 15s, or autoHeal.node.probeInterval to at most 4.666s)"},
		{"probes in the objective", "autoHeal: {classes: {critical: {objective: 29s}}}", "c.yaml:1:33: autoHeal.classes.critical.objective: three probes of 5s take longer than half the objective 29s of class critical (set autoHeal.node.probeInterval to at most 4.833s, or the objective to at least 30s)"},
		{"objective and grace", "autoHeal: {node: {offlineGracePeriod: 5m}}", "c.yaml:1:19: autoHeal.node.offlineGracePeriod: the objective 5m of class high cannot be met: max(grace 5m, fence wait 1m30s) + 10s to start = 5m10s (set autoHeal.classes.high.objective to at least 5m10s, or shorten autoHeal.node.offlineGracePeriod and autoHeal.fence.wait to at most 4m50s)"},
		{"objective and fence", "autoHeal: {fence: {wait: 6m}}", "c.yaml:1:20: autoHeal.fence.wait: the objective 5m of class high cannot be met: max(grace 2m, fence wait 6m) + 10s to start = 6m10s (set autoHeal.classes.high.objective to at least 6m10s, or shorten autoHeal.node.offlineGracePeriod and autoHeal.fence.wait to at most 4m50s)"},
		{"settle", "autoHeal: {node: {settle: 1m}}", "c.yaml:1:19: autoHeal.node.settle: settle 1m is not less than half the grace 2m (set autoHeal.node.settle below 1m)"},
		{"priorities", "autoHeal: {classes: {high: {minPriority: 90}}}", "c.yaml:1:29: autoHeal.classes.high.minPriority: minPriority 90 of class high is not below minPriority 90 of class critical (set it below 90)"},
		{"gateway", "cluster: {driver: openclaw}", "c.yaml:1:11: cluster.driver: the driver openclaw needs the address of its gateway (set cluster.url, for example wss://gateway:18789)"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := problems(t, Source{Path: "c.yaml", Data: []byte(tc.file)}); got != tc.want {
				t.Errorf("got:\n%s\nwant:\n%s", got, tc.want)
			}
		})
	}
}

// TestAllProblemsAtOnce: file, environment and flags are all judged in one go, in that order; a check across settings
// says nothing about values that were not understood.
func TestAllProblemsAtOnce(t *testing.T) {
	got := problems(t, Source{
		Path: "c.yaml",
		Data: []byte("api: {listen: x}\nautoHeal:\n  fence: {wait: soon, selfStop: 2m}\n  shadow: 1\n  nod: {}\n"),
		Env:  map[string]string{"AUTOHEAL_NODE_SETTLE": "2", "AUTOHEAL_NODE_SETTEL": "2s", "PATH": "/bin", "AUTOHEAL_DATA": "/d", "AUTOHEAL_UPSTREAM_THING": "x"},
		Flags: map[string]string{
			"autoHeal.workload.maxRestart": "3", "autoHeal.autonomy.reboot": "sure", "autoHeal.storm.window": "[",
		},
	})
	want := []string{
		`c.yaml:1:15: api.listen: "x" is not HOST:PORT`,
		`c.yaml:3:17: autoHeal.fence.wait: "soon" is not a duration`,
		`c.yaml:4:11: autoHeal.shadow: want true or false, got "1"`,
		`c.yaml:5:3: autoHeal.nod: unknown key (did you mean node?)`,
		`env: AUTOHEAL_NODE_SETTEL: no such setting (did you mean AUTOHEAL_NODE_SETTLE?)`,
		`env: AUTOHEAL_NODE_SETTLE: the duration 2 has no unit`,
		`flag: autoHeal.autonomy.reboot: want one of observe, suggest, approve, act, got "sure"`,
		`flag: autoHeal.storm.window: not valid YAML`,
		`flag: autoHeal.workload.maxRestart: unknown key (did you mean autoHeal.workload.maxRestarts?)`,
	}
	lines := strings.Split(got, "\n")
	if len(lines) != len(want) {
		t.Fatalf("got %d problems, want %d:\n%s", len(lines), len(want), got)
	}
	for i := range want {
		if !strings.HasPrefix(lines[i], want[i]) {
			t.Errorf("problem %d:\n got %s\nwant %s…", i, lines[i], want[i])
		}
	}
}

// TestRemediesOutsideTheFile: names that are nearly right are recognised, and no secret gets into a message.
func TestRemediesOutsideTheFile(t *testing.T) {
	got := problems(t, Source{
		Data: []byte("autoHeal: {signals: {xid: {31: restart}}}\nstate: {dir: ~}\n"),
		Env: map[string]string{
			"AUTOHEAL_NODE_SETTLE": "", "AUTOHEAL_ALERTS_RECEIVERS": "slack://hunter2@C1", "AUTOHEAL_WORKLOAD_FOO_BAR": "1",
			"AUTOHEAL_ENABLE": "true", "AUTOHEAL_AUTO_CORDON": "true", "AUTOHEAL_AUTOHEAL_SHADOW": "1",
		},
		Flags: map[string]string{"node.settle": "2s", "autoHeal.node": "{}", "x": "y"},
	})
	want := `config:1:32: autoHeal.signals.xid.31: want one of restart_app, reset_gpu, reboot_node, replace_hw, increase_memory, reduce_gpu_memory, check_network, free_disk, fix_code, contact_support, none, got "restart" (did you mean restart_app?)
config:2:14: state.dir: want path, got nothing (write "" for none)
env: AUTOHEAL_ALERTS_RECEIVERS: want a list, got "…" (write [a, b], or one entry a line after a dash)
env: AUTOHEAL_AUTOHEAL_SHADOW: no such setting (did you mean AUTOHEAL_SHADOW?)
env: AUTOHEAL_AUTO_CORDON: no such setting (did you mean AUTOHEAL_NODE_AUTO_CORDON?)
env: AUTOHEAL_ENABLE: no such setting (did you mean AUTOHEAL_ENABLED?)
env: AUTOHEAL_NODE_SETTLE: want a duration, got nothing (for example 90s, 5m, 1h30m or 7d)
env: AUTOHEAL_WORKLOAD_FOO_BAR: no such setting (unset it, or see autoheal config show for the keys of workload)
flag: autoHeal.node: a section has no value (set one of its keys: offlineGracePeriod, autoCordon, autoMigrate, probeInterval, probeTimeout, settle, earlyMove, hedge, returnDwell, returnTest)
flag: node.settle: unknown key (did you mean autoHeal.node.settle?)
flag: x: unknown key (autoheal config show lists all keys)`
	if got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

// TestHostileFiles: what is nested or repeated without end is refused, quickly and with one problem.
func TestHostileFiles(t *testing.T) {
	var laughs strings.Builder
	laughs.WriteString("autoHeal:\n  signals:\n    rules:\n      - a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n")
	for i := 1; i < 12; i++ {
		fmt.Fprintf(&laughs, "        a%d: &a%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", i-1), 10), ", "))
	}
	for name, data := range map[string]string{
		"brackets": strings.Repeat("[", 50_000),
		"maps":     strings.Repeat("{a: ", 50_000),
		"dashes":   "autoHeal:\n  signals:\n    rules:\n      " + strings.Repeat("- ", 5_000) + "x",
		"laughs":   laughs.String(),
		"large":    strings.Repeat("# hello\n", 100_000),
	} {
		t.Run(name, func(t *testing.T) {
			got := problems(t, Source{Path: "c.yaml", Data: []byte(data)})
			if !strings.Contains(got, "too much") && !strings.Contains(got, "larger than") {
				t.Errorf("got %.300s", got)
			}
		})
	}
}
