package policy

import (
	"encoding/json"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"autoheal.dev/autoheal"
)

func mustLoad(t *testing.T, src Source) *Loaded {
	t.Helper()
	l, err := Load(src)
	if err != nil {
		t.Fatalf("load:\n%v", err)
	}
	return l
}

// TestEveryFormOfValue reads one file with every unusual form and compares the whole policy.
func TestEveryFormOfValue(t *testing.T) {
	data, err := os.ReadFile("testdata/full.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Node.Hedge.Max = Limit{Count: 2}
	want.Node.ReturnTest = ReturnTest{Command: []string{"dcgmi", "diag", "-r", "2"}, Timeout: 90 * time.Second}
	want.Workload.RestartBackoff = Backoff{Kind: BackoffExponential, Initial: 2 * time.Second, Factor: 1.5, Max: time.Minute}
	want.Workload.OOMMaxMemoryMB = 512 * 1024
	want.Alerts.Receivers = []string{"slack://TOKEN@CHANNEL", "http://alertmanager:9093/api"}
	want.Classes[autoheal.Critical] = Class{Objective: time.Minute, MinPriority: 95, Match: []Match{
		{Labels: map[string]string{"app": "vllm", "tier": "prod"}, Namespace: "prod"}, {Name: "llm-*"},
	}}
	want.Autonomy = map[string]autoheal.HealMode{"gpu_failure": autoheal.HealSuggest, "gpu_failure.reboot": autoheal.HealAct, "scale_down": autoheal.HealObserve}
	want.Ladders = map[autoheal.FailureKind][]Step{autoheal.CrashLoop: {StepRestart, StepAlert}}
	want.Budgets.Disrupt.Concurrent = Limit{Percent: 2.5}
	want.Storm.Fraction = 0.33
	want.Transient.Xid = Occurrences{7, 36 * time.Hour}
	want.Offender.HalfLife = 14 * day
	want.Preemption.ForClasses = []autoheal.Class{autoheal.Critical, autoheal.High}
	want.Fence.Command = []string{"/usr/lib/autoheal/redfish", "--off"}
	want.Repair = Repair{ResetCommand: []string{"/usr/lib/autoheal/reset-gpu"}, RebootCommand: []string{"/usr/lib/autoheal/redfish", "--cycle"}, Timeout: 3 * time.Minute}
	want.Maintenance = []Maintenance{{Nodes: "rack=r1", From: time.Date(2026, 1, 31, 21, 0, 0, 0, time.UTC), To: time.Date(2026, 2, 1, 2, 0, 0, 0, time.UTC)}}
	want.Veto = []autoheal.Ref{{Kind: autoheal.RefNode, ID: "n1"}, {Kind: autoheal.RefWorkload, ID: "wl-7"}}
	want.Signals.Rules = []map[string]any{{
		"id": "site/own_thing", "kind": "workload", "priority": int64(3), "transient": true, "literals": []any{"our very own error"},
		"pattern": `our very own error a\d+: "(?P<what>\w+)"`, "failure": "app_fault", "action": "fix_code", "because": nil,
		"samples": []any{map[string]any{"text": `our very own error a12: "x"`, "fields": map[string]any{"what": "x"}}},
	}}
	want.Signals.Xid = map[int]autoheal.Advice{31: autoheal.AdviceRestartApp, 79: autoheal.AdviceRebootNode}
	want.Cluster = Cluster{Driver: DriverOpenClaw, URL: "wss://gateway:18789", TokenFile: "/etc/autoheal/token", Approve: []string{"gpu-*"}, Name: "prod"}
	want.Fence.TrustSelfStop = false // an OpenClaw gateway: off unless it is switched on
	want.State.LogBytes = 4 << 30
	want.API = API{}
	got := mustLoad(t, Source{Path: "full.yaml", Data: data}).Policy
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got:\n%s\nwant:\n%s", got.YAML(), want.YAML())
	}
	again := mustLoad(t, Source{Data: got.YAML()}).Policy
	if !reflect.DeepEqual(again, want) {
		t.Errorf("printed and read again:\n%s\nwant:\n%s", again.YAML(), want.YAML())
	}
}

// TestSelfStopWithAForeignGateway: trusted only when somebody says so (behaviour C4).
func TestSelfStopWithAForeignGateway(t *testing.T) {
	base := "cluster: {driver: openclaw, url: 'ws://g:1'}\n"
	if _, trusted := mustLoad(t, Source{Data: []byte(base)}).Policy.FenceWait(); trusted {
		t.Error("trusted by default")
	}
	l := mustLoad(t, Source{Data: []byte(base), Env: map[string]string{"AUTOHEAL_FENCE_TRUST_SELF_STOP": "true"}})
	if wait, trusted := l.Policy.FenceWait(); !trusted || wait != 90*time.Second {
		t.Errorf("switched on: %v, %v", wait, trusted)
	}
	if _, trusted := Default().FenceWait(); !trusted {
		t.Error("not trusted on the embedded cluster")
	}
}

// TestOrigins: flag beats environment beats file beats default, and Explain says which it was.
func TestOrigins(t *testing.T) {
	l := mustLoad(t, Source{
		Path:  "c.yaml",
		Data:  []byte("autoHeal:\n  node: &n\n    settle: 3s\n    probeTimeout: 1s\n    probeInterval: 4s\n  veto: [node/a]\n"),
		Env:   map[string]string{"AUTOHEAL_NODE_PROBE_TIMEOUT": "1500ms", "AUTOHEAL_NODE_PROBE_INTERVAL": "6s", "AUTOHEAL_VETO": "[node/b, node/c]", "AUTOHEAL_STATE_DIR": "/x: y", "AUTOHEAL_AUTONOMY": "{reboot: act}"},
		Flags: map[string]string{"autoHeal.node.probeInterval": "5500ms", "autoHeal.autonomy.drain": "act", "autoHeal.autonomy.gpu_failure.reboot": "observe", "cluster.name": "prod"},
	})
	got := map[string]Setting{}
	var order []string
	for _, s := range l.Explain() {
		got[s.Key] = s
		order = append(order, s.Key)
		if s.Origin != l.Origin(s.Key) {
			t.Errorf("%s: Explain says %s, Origin %s", s.Key, s.Origin, l.Origin(s.Key))
		}
	}
	for key, want := range map[string][2]string{
		"autoHeal.node.settle":             {"3s", "c.yaml:3:5"},
		"autoHeal.node.probeTimeout":       {"1.5s", "env"},
		"autoHeal.node.probeInterval":      {"5.5s", "flag"},
		"autoHeal.node.offlineGracePeriod": {"2m", "default"},
		"autoHeal.veto":                    {"[node/b, node/c]", "env"},
		"autoHeal.autonomy":                {"{drain: act, gpu_failure.reboot: observe, reboot: act}", "flag"},
		"state.dir":                        {"'/x: y'", "env"},
		"cluster.name":                     {"prod", "flag"},
	} {
		if s := got[key]; s.Value != want[0] || s.Origin != want[1] {
			t.Errorf("%s = %s from %s, want %s from %s", key, s.Value, s.Origin, want[0], want[1])
		}
	}
	if !slices.Equal(order, keys()) || order[0] != "autoHeal.enabled" || order[len(order)-1] != "api.socket" {
		t.Errorf("not in document order: %v", order)
	}
}

// TestAnchors: anchors, aliases and merges say what they say in any YAML reader; an own key beats a merged one.
func TestAnchors(t *testing.T) {
	l := mustLoad(t, Source{Path: "c.yaml", Data: []byte(`
autoHeal:
  budgets:
    disrupt: &b {concurrent: 3, perHour: 9}
    contain: {<<: *b, perHour: 20}
  classes:
    high: &h
      objective: 6m
    medium:
      minPriority: 20
      <<: *h
      objective: 20m
  verify: {critical: &d 20s, default: *d}
`)})
	p := l.Policy
	if p.Budgets.Contain.Concurrent.Count != 3 || p.Budgets.Contain.PerHour.Count != 20 {
		t.Errorf("contain = %+v", p.Budgets.Contain)
	}
	if c := p.Classes[autoheal.Medium]; c.Objective != 20*time.Minute || c.MinPriority != 20 {
		t.Errorf("medium = %+v", c)
	}
	if p.Verify.Default != 20*time.Second {
		t.Errorf("verify = %+v", p.Verify)
	}
	if o := l.Origin("autoHeal.budgets.contain.concurrent"); o != "c.yaml:4:18" {
		t.Errorf("a merged key comes from where it is written, got %s", o)
	}
}

// TestSecretsAreNotShown: Explain hides what receivers' URLs carry; the printed policy, which loads again, does not.
func TestSecretsAreNotShown(t *testing.T) {
	l := mustLoad(t, Source{Data: []byte("autoHeal: {alerts: {receivers: ['slack://hunter2@C1', 'http://am:9093/hunter2', 'https://u:hunter2@h/']}}")})
	for _, s := range l.Explain() {
		if strings.Contains(s.Value, "hunter2") {
			t.Errorf("%s shows %s", s.Key, s.Value)
		}
		if s.Key == "autoHeal.alerts.receivers" && s.Value != "['slack://…', 'http://am:9093/…', 'https://…']" {
			t.Errorf("receivers shown as %s", s.Value)
		}
	}
	if !strings.Contains(string(l.Policy.YAML()), "hunter2") {
		t.Error("the printed policy has lost its secrets")
	}
}

// TestHash: stable, and different for every setting that differs.
func TestHash(t *testing.T) {
	if a, b := Default().Hash(), Default().Hash(); a != b || len(a) != 64 {
		t.Errorf("%s, %s", a, b)
	}
	seen := map[string]string{Default().Hash(): "default"}
	for key, value := range map[string]string{"autoHeal.shadow": "true", "autoHeal.node.settle": "3s", "autoHeal.autonomy.reboot": "act", "api.socket": "/s"} {
		h := mustLoad(t, Source{Flags: map[string]string{key: value}}).Hash()
		if other, ok := seen[h]; ok {
			t.Errorf("%s has the hash of %s", key, other)
		}
		seen[h] = key
	}
}

// TestEnvNames: every setting has its own variable, none of them reserved.
func TestEnvNames(t *testing.T) {
	seen := map[string]string{}
	for i := range fields {
		name := fields[i].env()
		if other, ok := seen[name]; ok || slices.Contains(reservedEnv, name) {
			t.Errorf("%s is the variable of %s, and of %q or reserved", name, fields[i].key, other)
		}
		seen[name] = fields[i].key
	}
	for name, key := range map[string]string{
		"AUTOHEAL_NODE_OFFLINE_GRACE_PERIOD": "autoHeal.node.offlineGracePeriod", "AUTOHEAL_PREEMPTION_NOMINATION_TTL": "autoHeal.preemption.nominationTTL",
		"AUTOHEAL_CLUSTER_TOKEN_FILE": "cluster.tokenFile", "AUTOHEAL_WORKLOAD_OOM_AUTO_SCALE": "autoHeal.workload.oomAutoScale", "AUTOHEAL_API_LISTEN": "api.listen",
	} {
		if seen[name] != key {
			t.Errorf("%s sets %q, want %s", name, seen[name], key)
		}
	}
}

// TestWorkloadEnvironmentIsNoConfiguration: a healer started inside one of its workloads starts.
func TestWorkloadEnvironmentIsNoConfiguration(t *testing.T) {
	env := map[string]string{}
	for _, name := range ReservedEnv() {
		env[name] = "x"
	}
	if p := mustLoad(t, Source{Env: env}).Policy; !reflect.DeepEqual(p, Default()) {
		t.Errorf("reserved variables changed the policy:\n%s", p.YAML())
	}
}

// TestSchemaAgrees: what the schema says of a file is what Load says, for files with one good or bad value.
func TestSchemaAgrees(t *testing.T) {
	schema, err := Schema().Resolve(nil)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]bool{
		"": true, "autoHeal:\n": true, "autoHeal: {enabled: 1}": false, "autoHeal: {nod: {}}": false, "x: 1": false,
		"autoHeal: {node: {settle: 2}}": false, "autoHeal: {node: {settle: 2s}}": true, "autoHeal: {state: {}}": false,
		"autoHeal: {budgets: {disrupt: {concurrent: 5}}}": true, "autoHeal: {budgets: {disrupt: {concurrent: 0.5}}}": false,
		"autoHeal: {ladders: {crash_loop: [restart]}}": true, "autoHeal: {ladders: {crash_loop: [reboot]}}": false,
		"autoHeal: {workload: {restartBackoff: none}}": true, "autoHeal: {workload: {restartBackoff: {initial: 1s, x: 2}}}": false,
		"autoHeal: {autonomy: {reboot: act}}": true, "autoHeal: {autonomy: {reboot: off}}": false,
		"autoHeal: {maintenance: [{nodes: a}]}": false, "state: {logBytes: 1GB}": false, "cluster: {driver: openclaw, url: 'ws://g:1'}": true,
	}
	for _, path := range []string{"testdata/full.yaml", "testdata/product.yaml", "testdata/default.yaml"} {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		files[string(data)] = true
	}
	for _, file := range slices.Sorted(maps.Keys(files)) {
		v, err := toAny([]byte(file))
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		var instance any
		if err := json.Unmarshal(data, &instance); err != nil {
			t.Fatal(err)
		}
		if serr := schema.Validate(instance); (serr == nil) != files[file] {
			t.Errorf("schema on %q: %v, want valid %v", file, serr, files[file])
		}
		if _, lerr := Load(Source{Data: []byte(file)}); (lerr == nil) != files[file] {
			t.Errorf("load of %q: %v, want valid %v", file, lerr, files[file])
		}
	}
}

// TestChanges: a reload says what it changed, without the secrets.
func TestChanges(t *testing.T) {
	next := mustLoad(t, Source{Flags: map[string]string{"api.socket": "/s", "autoHeal.shadow": "true", "autoHeal.alerts.receivers": "['slack://hunter2@C']"}}).Policy
	want := []Change{
		{"autoHeal.shadow", "false", "true"}, {"autoHeal.alerts.receivers", "[]", "['slack://…']"}, {"api.socket", `""`, "/s"},
	}
	if got := Default().Changes(next); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := next.Changes(next); len(got) != 0 {
		t.Errorf("changed against itself: %v", got)
	}
}
