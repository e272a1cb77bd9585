package tool_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/tool"
	"autoheal.dev/autoheal/internal/tool/tooltest"
	"github.com/google/jsonschema-go/jsonschema"
)

func TestRefusedParameters(t *testing.T) {
	for _, tc := range []struct{ tool, in, param, text string }{
		{"node_get", `{"node":"n1"}`, "node", "Unknown parameter: node (expected: nodeId)"},
		{"node_get", `{"NODEID":"n1"}`, "NODEID", "Unknown parameter: NODEID (expected: nodeId)"},
		{"node_get", `{"nodeId":"n1","nodeId":"n2"}`, "nodeId", "Repeated parameter: nodeId"},
		{"node_get", `{}`, "nodeId", "Missing parameter: nodeId"},
		{"node_get", ``, "nodeId", "Missing parameter: nodeId"},
		{"node_get", `{"nodeId":" "}`, "nodeId", "Wrong value for parameter nodeId: it is empty"},
		{"node_get", `{"nodeId":7}`, "nodeId", "Wrong type for parameter nodeId: expected string, got number"},
		{"node_get", `{"nodeId":null}`, "nodeId", "Wrong type for parameter nodeId: expected string, got null"},
		{"node_get", `["n1"]`, "", "Bad parameters: expected a JSON object, got array"},
		{"node_get", `{"nodeId":"n1"} {}`, "", "Bad parameters: more than one JSON value"},
		{"node_get", `{"nodeId":"n1"`, "", "Bad parameters: the JSON ends too early"},
		{"node_get", `{"nodeId" "n1"}`, "", "Bad parameters: not JSON at byte 10"},
		{"node_get", `{"node\u001b[2J":1}`, "node\x1b[2J", `Unknown parameter: node\x1b[2J (expected: nodeId)`},
		{"cluster_status", `{"verbose":true}`, "verbose", "Unknown parameter: verbose (expected: cluster)"},
		{"healer_resume", `{"now":true}`, "now", "Unknown parameter: now (expected: none)"},
		{"node_list", `{"status":"bad"}`, "status", `Wrong value for parameter status: "bad" is not one of ready, not_ready, cordoned, draining, offline`},
		{"node_list", `{"labels":{"a":1}}`, "labels.a", "Wrong type for parameter labels.a: expected string, got number"},
		{"node_list", `{"labels":[]}`, "labels", "Wrong type for parameter labels: expected object, got array"},
		{"node_drain", `{"nodeId":"n1","force":"yes"}`, "force", "Wrong type for parameter force: expected boolean, got string"},
		{"workload_scale", `{"workloadId":"x","replicas":1.5}`, "replicas", "Wrong type for parameter replicas: expected integer, got 1.5"},
		{"workload_scale", `{"workloadId":"x","replicas":1e300}`, "replicas", "Wrong type for parameter replicas: expected integer, got 1e300"},
		{"workload_scale", `{"workloadId":"x","replicas":-1}`, "replicas", "Wrong value for parameter replicas: -1 is less than 0"},
		{"workload_submit", `{"name":"x","image":"host","priority":101}`, "priority", "Wrong value for parameter priority: 101 is more than 100"},
		{"workload_submit", `{"name":"x","image":"host","command":["a",1]}`, "command[1]", "Wrong type for parameter command[1]: expected string, got number"},
		{"workload_submit", `{"spec":{"name":"x","image":"host"},"memoryMb":5}`, "memoryMb", "Wrong parameter: memoryMb is given beside spec: put it inside spec"},
		{"workload_submit", `{"spec":{"name":"x","image":"host","gpu":1}}`, "spec.gpu", "Unknown parameter: spec.gpu (expected: name, image, gpus, command, args, env, gpuMemoryMb, cpuCores, memoryMb, priority, preemptible, maxRuntimeSeconds, labels)"},
		{"workload_submit", `{"spec":{"image":"host"}}`, "spec.name", "Missing parameter: spec.name"},
		{"workload_logs", `{"workloadId":"wl-crash","since":"5 minutes"}`, "since", `Wrong value for parameter since: "5 minutes" is neither an age such as 5m or -1h, nor now, nor a time such as 2026-01-02T15:04:05Z`},
		{"logs_search", `{"startTime":"-1h","endTime":"-2h"}`, "endTime", "Wrong value for parameter endTime: it lies before startTime"},
		{"fence_confirm", `{"nodeId":"n2","poweredOff":false}`, "poweredOff", "Wrong value for parameter poweredOff: only a machine that is powered off can be confirmed"},
		{"incident_approve", `{}`, "incidentId", "Wrong parameters: give either incidentId or approvalId"},
	} {
		_, err := call(t, tooltest.Sample(), tc.tool, tc.in)
		p, ok := errors.AsType[*tool.ParamError](err)
		if !ok || p.Param != tc.param || err.Error() != tc.text || autoheal.KindOf(err) != autoheal.ErrInvalid {
			t.Errorf("%s %s:\n got %v (%+v)\nwant %s (param %q)", tc.tool, tc.in, err, p, tc.text, tc.param)
		}
	}
}

func TestNotFound(t *testing.T) {
	for _, tc := range []struct{ tool, in, text string }{
		{"node_get", `{"nodeId":"node-9"}`, "Node not found: node-9"},
		{"node_cordon", `{"nodeId":"node-9"}`, "Node not found: node-9"},
		{"workload_list", `{"nodeId":"node-9"}`, "Node not found: node-9"},
		{"workload_get", `{"workloadId":"wl-9"}`, "Workload not found: wl-9"},
		{"workload_stop", `{"workloadId":"wl-9"}`, "Workload not found: wl-9"},
		{"incident_get", `{"incidentId":"inc-9"}`, "Incident not found: inc-9"},
		{"alert_silence", `{"alertId":"a-9","duration":"1h"}`, "Alert not found: a-9"},
		{"cluster_status", `{"cluster":"mars"}`, "Cluster not found: mars"},
		{"why", `{"target":"gpu/GPU-9"}`, "GPU not found: GPU-9"},
	} {
		_, err := call(t, tooltest.Sample(), tc.tool, tc.in)
		if err == nil || err.Error() != tc.text || autoheal.KindOf(err) != autoheal.ErrNotFound {
			t.Errorf("%s %s: got %v, want %s", tc.tool, tc.in, err, tc.text)
		}
	}
}

// TestWholeNumbers accepts what JSON schema calls an integer: agents write 2.0 and 1e3.
func TestWholeNumbers(t *testing.T) {
	for _, n := range []string{"2", "2.0", "0.2e1", "2e0"} {
		w := tooltest.Sample()
		if _, err := call(t, w, "workload_scale", `{"workloadId":"wl-llm","replicas":`+n+`}`); err != nil {
			t.Fatal(err)
		}
		if got := w.Commands()[0].Params.Replicas; got != 2 {
			t.Errorf("%s was read as %d", n, got)
		}
	}
}

// FuzzParameters feeds anything to every verb: it is refused with a *ParamError, or it fits the verb's schema.
func FuzzParameters(f *testing.F) {
	all := tool.All()
	schemas := make([]*jsonschema.Resolved, len(all))
	for i, tl := range all {
		f.Add(i, []byte(calls[tl.Name]))
		s, err := tl.InputSchema()
		if err != nil {
			f.Fatal(err)
		}
		if schemas[i], err = s.Resolve(nil); err != nil {
			f.Fatal(err)
		}
	}
	for i, in := range []string{`{"a":{"a":[1,2,{"a":null}]}}`, `[[[[[[[[[[[[[[[[[[[[`, `{"nodeId":1e999}`, "{\"\\ud800\":1}", "\xff", `{"spec":{"env":{"A":"b"}}}`} {
		f.Add(i, []byte(in))
	}
	f.Fuzz(func(t *testing.T, i int, in []byte) {
		if i < 0 || i >= len(all) {
			t.Skip()
		}
		tl := all[i]
		if tl.Name == "heal_run" || tl.Name == "node_drain" { // they wait
			t.Skip()
		}
		_, err := tl.Call(context.Background(), tooltest.Sample().Env(), in)
		if p, ok := errors.AsType[*tool.ParamError](err); ok {
			if p.Error() == "" || strings.ContainsFunc(p.Error(), unicode.IsControl) {
				t.Errorf("%s: the refusal is empty or not printable: %q", tl.Name, p.Error())
			}
			return
		}
		if len(strings.TrimSpace(string(in))) == 0 {
			return
		}
		var v any
		if err := json.Unmarshal(in, &v); err != nil {
			t.Fatalf("%s took what is no JSON: %q", tl.Name, in)
		}
		if err := schemas[i].Validate(v); err != nil {
			t.Errorf("%s took %q, which does not fit its schema: %v", tl.Name, in, err)
		}
	})
}

func FuzzPrintable(f *testing.F) {
	f.Add(tooltest.Hostile)
	f.Add("a\u2028b\r\n\xff\xc2")
	f.Fuzz(func(t *testing.T, s string) {
		for _, r := range tool.Printable(s) {
			if unicode.Is(unicode.Cc, r) || unicode.Is(unicode.Cf, r) || r == '\u2028' || r == '\u2029' {
				t.Errorf("%q of %q reaches the terminal", r, s)
			}
		}
		raw, err := tool.Encode(struct {
			S string `json:"s"`
		}{s})
		if err != nil {
			t.Fatal(err)
		}
		var back struct{ S string }
		if err := json.Unmarshal(raw, &back); err != nil || back.S != strings.ToValidUTF8(s, "\uFFFD") && back.S != string([]rune(s)) {
			t.Errorf("%q came back as %q (%v) through %s", s, back.S, err, raw)
		}
		for _, r := range string(raw) {
			if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) {
				t.Errorf("%q of %q is in the JSON", r, s)
			}
		}
	})
}
