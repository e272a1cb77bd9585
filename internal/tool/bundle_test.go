package tool_test

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/policy"
	"autoheal.dev/autoheal/internal/tool"
	"autoheal.dev/autoheal/internal/tool/tooltest"
)

// fileOf returns the text of one file of a bundle.
func fileOf(t *testing.T, b tool.BundleOut, name string) string {
	t.Helper()
	n := slices.IndexFunc(b.Files, func(f tool.BundleFile) bool { return f.Name == name })
	if n < 0 {
		t.Fatalf("no %s in the bundle: %+v", name, b.Files)
	}
	return b.Files[n].Text
}

// TestBundle: it holds what somebody needs who was not there, and every name stays within its folder.
func TestBundle(t *testing.T) {
	b := mustCall[tool.BundleOut](t, tooltest.Sample(), "bundle_get", `{"incidentId":"inc-000003"}`)
	for name, want := range map[string]string{
		"README.txt": "0.1.0", "postmortem.md": "", "incident.json": "inc-000003", "account.json": "", "journal.jsonl": "incident_opened",
		"evidence/01-n1/kernel.txt": "Xid", "evidence/01-n1/log.txt": "API_TOKEN=(hidden)", "evidence/01-n1/-..-etc-passwd.txt": "not where it says",
		"logs/wl-crash.txt": "stdout attempt 3 info loading", "config.json": "autoHeal.fence.wait", "nodes.json": `"id":"n1"`, "workloads.json": `"API_TOKEN":"(hidden)"`,
	} {
		if text := fileOf(t, b, name); !strings.Contains(text, want) {
			t.Errorf("%s lacks %q:\n%s", name, want, text)
		}
	}
	for _, f := range b.Files {
		if !filepath.IsLocal(f.Name) || strings.Contains(f.Name, `\`) {
			t.Errorf("%q leads out of the folder", f.Name)
		}
		if strings.HasSuffix(f.Name, ".json") && !json.Valid([]byte(f.Text)) {
			t.Errorf("%s is no JSON:\n%s", f.Name, f.Text)
		}
	}
	if len(b.Missing) > 0 {
		t.Errorf("missing: %q", b.Missing)
	}
}

// TestBundleHoldsNoSecret plants secrets wherever one can get: in the environment, in a variable of several lines, in a line
// that a workload printed, in a captured text, in a record, in the configuration (behaviour F6).
func TestBundleHoldsNoSecret(t *testing.T) {
	const token, key, number = "xoxb-1234-in-a-receiver", "-----BEGIN KEY-----\nMIIEvQIBADAN\n\"quoted\\line\"\n-----END KEY-----", "1234567"
	w := tooltest.Sample()
	spec := w.Specs["wl-crash"]
	spec.Env = map[string]string{"API_TOKEN": tooltest.Secret, "KEY": key, "PIN": number, "DEBUG": "true"}
	w.Specs["wl-crash"] = spec
	for n := range w.History {
		w.History[n].Cause += ": " + tooltest.Secret
		w.History[n].Evidence = append(w.History[n].Evidence, autoheal.Signal{Rule: "exit", Excerpt: "pin " + number + " key MIIEvQIBADAN \"quoted\\line\""})
		w.History[n].Timeline = append(w.History[n].Timeline, autoheal.Moment{Text: "said \"" + tooltest.Secret + "\""})
	}
	w.Lines = append(w.Lines, autoheal.LogLine{At: tooltest.Now, Workload: "wl-crash", Message: "my token is " + tooltest.Secret})
	w.Accounts["inc-000003"] = "# it said " + tooltest.Secret + " and MIIEvQIBADAN and true\n"
	env := w.Env()
	env.Config = func() *policy.Loaded {
		l, err := policy.Load(policy.Source{Flags: map[string]string{"autoHeal.alerts.receivers": "[\"slack://" + token + "@C01\"]"}})
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	tl, err := tool.Find("bundle_get")
	if err != nil {
		t.Fatal(err)
	}
	raw, err := tl.Call(t.Context(), env, json.RawMessage(`{"incidentId":"inc-000003"}`))
	if err != nil {
		t.Fatal(err)
	}
	var b tool.BundleOut
	if err := json.Unmarshal(raw, &b); err != nil {
		t.Fatal(err)
	}
	for _, f := range b.Files {
		for _, secret := range []string{tooltest.Secret, "MIIEvQIBADAN", `quoted\line`, `quoted\\line`, number, token} {
			if strings.Contains(f.Text, secret) {
				t.Errorf("%s holds %q:\n%s", f.Name, secret, f.Text)
			}
		}
		if strings.HasSuffix(f.Name, ".json") && !json.Valid([]byte(f.Text)) {
			t.Errorf("%s is no JSON any more:\n%s", f.Name, f.Text)
		}
	}
	if got := fileOf(t, b, "postmortem.md"); !strings.Contains(got, "and true") {
		t.Errorf("a word that happens to be the value of a variable was struck: %s", got)
	}
}

// TestBundleSaysWhatIsMissing: whoever opens it learns what was not kept.
func TestBundleSaysWhatIsMissing(t *testing.T) {
	w := tooltest.Sample()
	w.Records, w.Captured = nil, nil
	b := mustCall[tool.BundleOut](t, w, "bundle_get", `{"incidentId":"inc-000001"}`)
	if len(b.Missing) != 2 || !strings.Contains(fileOf(t, b, "README.txt"), "missing: journal.jsonl: no record of this incident is kept any more") {
		t.Errorf("missing: %q\n%s", b.Missing, b.Files[0].Text)
	}
	if _, err := call(t, w, "bundle_get", `{"incidentId":"inc-9"}`); autoheal.KindOf(err) != autoheal.ErrNotFound {
		t.Errorf("of no incident: %v", err)
	}
}
