package autoheal_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"autoheal.dev/autoheal"
)

func TestCheckLabels(t *testing.T) {
	set, problems := autoheal.ParseLabels(map[string]string{
		autoheal.LabelHealth: "http :8080/healthz?deep=1", autoheal.LabelHealthFailures: "5", autoheal.LabelHealthInterval: "20s",
		autoheal.LabelProgress: `log ^step \d+ loss`, autoheal.LabelProgressStall: "10m",
	})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	h, p := set.Options.Health, set.Options.Progress
	if h.Kind != autoheal.CheckHTTP || h.Port != 8080 || h.Path != "/healthz?deep=1" || h.Failures != 5 || h.Interval != 20*time.Second || h.Timeout != 3*time.Second || h.Startup != 10*time.Minute {
		t.Errorf("health: %+v", h)
	}
	if p.Kind != autoheal.CheckLog || p.Pattern != `^step \d+ loss` || p.Stall != 10*time.Minute || p.Startup != 10*time.Minute {
		t.Errorf("progress: %+v", p)
	}
	for label, want := range map[string]func(autoheal.WorkloadOptions) bool{
		"tcp :9000":                   func(o autoheal.WorkloadOptions) bool { return o.Health.Port == 9000 && o.Health.Path == "" },
		"http :80":                    func(o autoheal.WorkloadOptions) bool { return o.Health.Path == "/" },
		"exec test -e up":             func(o autoheal.WorkloadOptions) bool { return len(o.Health.Exec) == 3 },
		`exec ["sh","-c","a && b\""]`: func(o autoheal.WorkloadOptions) bool { return o.Health.Exec[2] == `a && b"` },
	} {
		set, problems := autoheal.ParseLabels(map[string]string{autoheal.LabelHealth: label})
		if len(problems) > 0 || !want(set.Options) {
			t.Errorf("%s: %+v %v", label, set.Options.Health, problems)
		}
	}
	for label, want := range map[string]func(*autoheal.ProgressSpec) bool{
		"file ckpt/latest":          func(p *autoheal.ProgressSpec) bool { return p.File == "ckpt/latest" },
		"metric :9090 steps_total":  func(p *autoheal.ProgressSpec) bool { return p.Path == "/metrics" && p.Metric == "steps_total" },
		"metric :9090/m steps:rate": func(p *autoheal.ProgressSpec) bool { return p.Path == "/m" && p.Port == 9090 },
	} {
		set, problems := autoheal.ParseLabels(map[string]string{autoheal.LabelProgress: label})
		if len(problems) > 0 || !want(set.Options.Progress) {
			t.Errorf("%s: %+v %v", label, set.Options.Progress, problems)
		}
	}
}

func TestCheckLabelsRefused(t *testing.T) {
	for _, c := range []struct{ key, value, names string }{
		{autoheal.LabelHealth, "", "unknown kind"},
		{autoheal.LabelHealth, "ping :80", "unknown kind"},
		{autoheal.LabelHealth, "http 8080/x", "begin with a colon"},
		{autoheal.LabelHealth, "http other:80/", "loopback"},
		{autoheal.LabelHealth, "http :0/", "no port"},
		{autoheal.LabelHealth, "http :99999/", "no port"},
		{autoheal.LabelHealth, "http :80/a b", "path"},
		{autoheal.LabelHealth, "http :80/a\r\nX: y", "path"},
		{autoheal.LabelHealth, "tcp :80/x", "no path"},
		{autoheal.LabelHealth, "exec", "no command"},
		{autoheal.LabelHealth, `exec sh -c "a b"`, "JSON list"},
		{autoheal.LabelHealth, `exec ["a",1]`, "no JSON"},
		{autoheal.LabelHealthTimeout, "1s", autoheal.LabelHealth},
		{autoheal.LabelProgressStall, "1m", autoheal.LabelProgress},
		{autoheal.LabelProgress, "log", "nothing to look at"},
		{autoheal.LabelProgress, "log (", "missing closing"},
		{autoheal.LabelProgress, "log " + strings.Repeat("x", 600), "at most 512"},
		{autoheal.LabelProgress, "metric :80/m bad-name", "no name of a metric"},
		{autoheal.LabelProgress, "disk x", "unknown kind"},
	} {
		_, problems := autoheal.ParseLabels(map[string]string{c.key: c.value})
		if len(problems) != 1 || !strings.Contains(problems[0].Error(), c.names) || !strings.Contains(problems[0].Error(), c.key) {
			t.Errorf("%s %q: %v", c.key, c.value, problems)
		}
	}
	_, problems := autoheal.ParseLabels(map[string]string{autoheal.LabelHealth: "tcp :80", autoheal.LabelHealthTimeout: "1m"})
	if len(problems) != 1 || !strings.Contains(problems[0].Error(), "longer than the interval") {
		t.Errorf("timeout beyond interval: %v", problems)
	}
}

// TestLabelsAreDocumented: what is refused names the known keys, and each of them is explained.
func TestLabelsAreDocumented(t *testing.T) {
	_, problems := autoheal.ParseLabels(map[string]string{autoheal.LabelPrefix + "nonsense": "x"})
	if len(problems) != 1 {
		t.Fatal(problems)
	}
	_, known, _ := strings.Cut(problems[0].Detail, "known are ")
	text, err := os.ReadFile("docs/labels.md")
	if err != nil {
		t.Fatal(err)
	}
	keys := strings.Split(known, ", ")
	if len(keys) < 20 {
		t.Fatalf("only %d keys are known: %s", len(keys), known)
	}
	for _, k := range keys {
		if !strings.Contains(string(text), "`"+k+"`") {
			t.Errorf("docs/labels.md does not explain %s", k)
		}
	}
}
