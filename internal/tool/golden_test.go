package tool_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/tool"
	"autoheal.dev/autoheal/internal/tool/tooltest"
	"github.com/google/jsonschema-go/jsonschema"
)

var update = flag.Bool("update", false, "rewrite the golden files in testdata")

// golden compares got with a file, or writes it with -update.
func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, got, "", "  "); err != nil {
		t.Fatalf("not JSON: %v\n%s", err, got)
	}
	pretty.WriteByte('\n')
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, pretty.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (write it with -update and read the diff)", err)
	}
	if !bytes.Equal(want, pretty.Bytes()) {
		t.Errorf("%s differs from what the code gives (-update rewrites it; read the diff):\n%s", path, pretty.Bytes())
	}
}

// TestSchemas shows every change of a verb's parameters or results in review, and that no file is left of a verb that is
// gone.
func TestSchemas(t *testing.T) {
	var names []string
	for _, tl := range tool.All() {
		spec, err := tl.Spec()
		if err != nil {
			t.Fatal(err)
		}
		raw, err := json.Marshal(spec)
		if err != nil {
			t.Fatal(err)
		}
		golden(t, filepath.Join("testdata", "schemas", tl.Name+".json"), raw)
		if slices.Contains(names, tl.Name) {
			t.Errorf("two verbs are called %s", tl.Name)
		}
		names = append(names, tl.Name)
	}
	noStrays(t, filepath.Join("testdata", "schemas"), names)
}

func noStrays(t *testing.T, dir string, names []string) {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !slices.Contains(names, strings.TrimSuffix(f.Name(), ".json")) {
			t.Errorf("%s belongs to no verb", filepath.Join(dir, f.Name()))
		}
	}
}

// calls is one call of every verb in the sample world.
var calls = map[string]string{
	"cluster_status":      `{}`,
	"node_list":           `{"labels":{"topology.kubernetes.io/rack":"r1"},"gpuModel":"h100"}`,
	"node_get":            `{"nodeId":"n1"}`,
	"node_drain":          `{"nodeId":"n1","waitSeconds":0}`,
	"node_cordon":         `{"nodeId":"n1"}`,
	"node_uncordon":       `{"nodeId":"n2"}`,
	"workload_submit":     `{"spec":{"name":"new","image":"host","gpus":1,"env":{"API_TOKEN":"` + tooltest.Secret + `"}}}`,
	"workload_get":        `{"workloadId":"wl-crash"}`,
	"workload_list":       `{"state":"running","limit":1}`,
	"workload_stop":       `{"workloadId":"wl-llm"}`,
	"workload_scale":      `{"workloadId":"wl-llm","replicas":3}`,
	"workload_logs":       `{"workloadId":"wl-crash","level":"error","tail":50}`,
	"metrics_query":       `{"metric":"gpu_utilization"}`,
	"logs_search":         `{"query":"Xid","nodeId":"n1"}`,
	"alert_create":        `{"name":"auto-heal-complete","severity":"info","message":"Auto-heal: 2 nodes cordoned, 5 workloads restarted"}`,
	"alert_list":          `{"active":true}`,
	"alert_silence":       `{"alertId":"alert-000001","duration":"7d"}`,
	"workload_pause":      `{"workloadId":"llm","reason":"x"}`,
	"workload_resume":     `{"workloadId":"llm"}`,
	"node_waiting":        ``,
	"node_approve":        `{"nodeId":"n9"}`,
	"node_forget":         `{"nodeId":"n2"}`,
	"node_gpu_quarantine": `{"nodeId":"n1","gpuId":"GPU-1b"}`,
	"quarantine_list":     `{}`,
	"quarantine_clear":    `{"target":"GPU-3a"}`,
	"heal_run":            `{"dryRun":true}`,
	"heal_plan":           `{}`,
	"incident_list":       `{"open":true}`,
	"incident_get":        `{"incidentId":"inc-000002"}`,
	"incident_approve":    `{"incidentId":"inc-000002"}`,
	"incident_dismiss":    `{"incidentId":"inc-000003"}`,
	"incident_release":    `{"incidentId":"inc-000002"}`,
	"evidence_get":        `{"incidentId":"inc-000002","part":"kernel"}`,
	"postmortem_get":      `{}`,
	"bundle_get":          `{"incidentId":"inc-000003"}`,
	"report_get":          `{"since":"2d"}`,
	"shadow_report":       `{"since":"2d"}`,
	"healer_status":       `{}`,
	"config_get":          `{}`,
	"healer_pause":        `{"duration":"30m"}`,
	"healer_resume":       `{}`,
	"veto_set":            `{"target":"node/n1"}`,
	"veto_clear":          `{"target":"n1"}`,
	"maintenance_start":   `{"scope":"rack=r1","duration":"2h"}`,
	"maintenance_end":     `{"scope":"rack=r1"}`,
	"maintenance_list":    `{}`,
	"fence_confirm":       `{"nodeId":"n2","poweredOff":true}`,
	"why":                 `{"target":"llm"}`,
}

// TestResults calls every verb, shows its result in a golden file, checks it against the verb's own schema, and that no
// secret of the world is in it (behaviour F6).
func TestResults(t *testing.T) {
	var names []string
	for _, tl := range tool.All() {
		names = append(names, tl.Name)
		t.Run(tl.Name, func(t *testing.T) {
			in, ok := calls[tl.Name]
			if !ok {
				t.Fatal("add a call to the table")
			}
			w := tooltest.Sample()
			if tl.Name == "node_forget" { // it is refused while workloads are on the node
				w.Running = nil
			}
			out, err := tl.Call(context.Background(), w.Env(), json.RawMessage(in))
			if err != nil {
				t.Fatal(err)
			}
			golden(t, filepath.Join("testdata", "results", tl.Name+".json"), out)
			if bytes.Contains(out, []byte(tooltest.Secret)) {
				t.Errorf("a secret is in the result:\n%s", out)
			}
			validate(t, tl.OutputSchema, out)
		})
	}
	noStrays(t, filepath.Join("testdata", "results"), names)
}

func validate(t *testing.T, schema func() (*jsonschema.Schema, error), raw []byte) {
	t.Helper()
	s, err := schema()
	if err != nil {
		t.Fatal(err)
	}
	resolved, err := s.Resolve(nil)
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	if err := resolved.Validate(v); err != nil {
		t.Errorf("does not fit its schema: %v\n%s", err, raw)
	}
}

// TestSecretsInErrors plants secrets in parameters that are refused: no refusal may repeat one.
func TestSecretsInErrors(t *testing.T) {
	const secret = tooltest.Secret
	for _, in := range []string{
		`{"name":"x","image":"host","env":{"A":["` + secret + `"]}}`,
		`{"name":"x","image":"host","env":"` + secret + `"}`,
		`{"name":"x","image":"host","env":{"A":"` + secret + `"},"bad":1}`,
		`{"name":"x","env":{"A":"` + secret + `"}}`,
		`{"name":"x","image":"host","env":{"A":"` + secret + `","A":"` + secret + `"}}`,
		`{"name":"x","image":"host","env":{"A":"` + secret + `"`,
		`{"name":"x","image":"host","env":{"A":"` + secret + `"},"labels":{"autoheal.dev/class":"urgent"}}`,
		`{"spec":{"name":"x","image":"host","env":{"A":"` + secret + `"}},"env":{"A":"` + secret + `"}}`,
		`{"spec":{"name":"x","image":"host","env":{"A":{"B":"` + secret + `"}}}}`,
		secret,
	} {
		_, err := call(t, tooltest.Sample(), "workload_submit", in)
		if err == nil {
			t.Errorf("%s was accepted", in)
			continue
		}
		if strings.Contains(err.Error(), secret) {
			t.Errorf("the refusal repeats the secret: %v", err)
		}
	}
}

func call(t *testing.T, w *tooltest.World, name, in string) (json.RawMessage, error) {
	t.Helper()
	tl, err := tool.Find(name)
	if err != nil {
		t.Fatal(err)
	}
	return tl.Call(context.Background(), w.Env(), json.RawMessage(in))
}

// mustCall calls a verb and reads its result.
func mustCall[T any](t *testing.T, w *tooltest.World, name, in string) T {
	t.Helper()
	raw, err := call(t, w, name, in)
	if err != nil {
		t.Fatal(err)
	}
	var out T
	if err := json.Unmarshal(raw, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestRoles checks that a caller without the right changes nothing.
func TestRoles(t *testing.T) {
	for _, tl := range tool.All() {
		for _, role := range []tool.Role{"", "root", tool.RoleViewer, tool.RoleOperator} {
			allowed := tl.Role == tool.RoleViewer && role != "" && role != "root" || tl.Role == tool.RoleOperator && role == tool.RoleOperator
			w := tooltest.Sample()
			env := w.Env().As(tool.Caller{Name: "eve", Role: role})
			_, err := tl.Call(context.Background(), env, json.RawMessage(`{"no such parameter":1}`))
			if denied := autoheal.KindOf(err) == autoheal.ErrDenied; denied == allowed {
				t.Errorf("%s as %q: %v", tl.Name, role, err)
			}
			if len(w.Commands()) > 0 {
				t.Errorf("%s as %q reached the healer", tl.Name, role)
			}
		}
	}
}

// TestReference keeps docs/verbs.md in step with the definitions.
func TestReference(t *testing.T) {
	got, err := tool.Reference()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("..", "..", "docs", "verbs.md")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != got {
		t.Errorf("%s is not what the definitions give: rewrite it with -update and read the diff", path)
	}
}
