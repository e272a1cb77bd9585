package drill

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"autoheal.dev/autoheal"
)

func snap(mutate func(*state, map[autoheal.WorkloadID]process)) *snapshot {
	st := &state{
		Nodes: []nodeState{{ID: "n1", Status: autoheal.StatusReady}, {ID: "n2", Status: autoheal.StatusReady}},
		Workloads: []workloadState{
			{ID: "wl-1", State: autoheal.Running, Node: "n1", Attempt: 1}, {ID: "wl-2", State: autoheal.Running, Node: "n2", Attempt: 1},
		},
	}
	procs := map[autoheal.WorkloadID]process{"wl-1": {PID: 11, Start: 5}, "wl-2": {PID: 12, Start: 6}}
	if mutate != nil {
		mutate(st, procs)
	}
	return &snapshot{state: st, mains: procs}
}

func TestBystanders(t *testing.T) {
	hit, nodes := map[autoheal.WorkloadID]bool{"wl-1": true}, map[autoheal.NodeID]bool{"n1": true}
	for name, tc := range map[string]struct {
		mutate func(*state, map[autoheal.WorkloadID]process)
		want   string // part of the one problem; "" = none
	}{
		"untouched": {nil, ""},
		"the hit moved": {func(st *state, _ map[autoheal.WorkloadID]process) {
			st.Workloads[0].Attempt, st.Workloads[0].Node = 2, "n2"
		}, ""},
		"the hit is gone": {func(_ *state, p map[autoheal.WorkloadID]process) { delete(p, "wl-1") }, ""},
		"the hit node":    {func(st *state, _ map[autoheal.WorkloadID]process) { st.Nodes[0].Status = autoheal.StatusOffline }, ""},
		"attempt":         {func(st *state, _ map[autoheal.WorkloadID]process) { st.Workloads[1].Attempt = 2 }, "wl-2 was not hit and changed"},
		"node":            {func(st *state, _ map[autoheal.WorkloadID]process) { st.Workloads[1].Node = "n1" }, "wl-2 was not hit and changed"},
		"crash counted":   {func(st *state, _ map[autoheal.WorkloadID]process) { st.Workloads[1].Restarts = 1 }, "with 1"},
		"process":         {func(_ *state, p map[autoheal.WorkloadID]process) { p["wl-2"] = process{PID: 13, Start: 6} }, "process changed from 12 to 13"},
		"recycled number": {func(_ *state, p map[autoheal.WorkloadID]process) { p["wl-2"] = process{PID: 12, Start: 9} }, "process changed"},
		"vanished":        {func(st *state, _ map[autoheal.WorkloadID]process) { st.Workloads = st.Workloads[:1] }, "wl-2 was not hit and is gone"},
		"appeared": {func(st *state, _ map[autoheal.WorkloadID]process) {
			st.Workloads = append(st.Workloads, workloadState{ID: "wl-3"})
		}, "wl-3 appeared"},
		"mark":       {func(st *state, _ map[autoheal.WorkloadID]process) { st.Nodes[1].CordonedBy = []string{"autoheal"} }, "n2 was not hit"},
		"suspicious": {func(st *state, _ map[autoheal.WorkloadID]process) { st.Nodes[1].Status = autoheal.StatusNotReady }, "n2 was not hit"},
	} {
		t.Run(name, func(t *testing.T) { one(t, judgeBystanders(snap(nil), snap(tc.mutate), hit, nodes), tc.want) })
	}
}

// one checks that there is exactly one problem with want in it, or none when want is empty.
func one(t *testing.T, got []string, want string) {
	t.Helper()
	switch {
	case want == "" && len(got) > 0:
		t.Errorf("found %q, nothing was wrong", got)
	case want != "" && (len(got) != 1 || !strings.Contains(got[0], want)):
		t.Errorf("found %q, want one with %q", got, want)
	}
}

func TestMarks(t *testing.T) {
	one(t, judgeMarks(snap(nil).state, nil), "")
	one(t, judgeMarks(&state{Nodes: []nodeState{{ID: "n1", Status: autoheal.StatusOffline, CordonedBy: []string{"autoheal"}}}}, nil), "")
	one(t, judgeMarks(&state{Nodes: []nodeState{{ID: "n1", Status: autoheal.StatusCordoned, CordonedBy: []string{"ann"}}}}, nil), "")
	one(t, judgeMarks(&state{Nodes: []nodeState{{ID: "n1", Status: autoheal.StatusCordoned, CordonedBy: []string{"ann", "autoheal"}}}}, nil), "n1 answers")
	one(t, judgeMarks(&state{Nodes: []nodeState{{ID: "n1", Status: autoheal.StatusCordoned, CordonedBy: []string{"autoheal"}}}}, map[autoheal.NodeID]bool{"n1": true}), "")
}

func TestIncidents(t *testing.T) {
	node := func(id string, phase autoheal.Phase) autoheal.Incident {
		return autoheal.Incident{ID: "inc-1", Kind: autoheal.NodeOffline, Subject: autoheal.NodeRef(autoheal.NodeID(id)), Phase: phase}
	}
	want := []expectedIncident{
		{Kind: autoheal.NodeOffline, Subject: autoheal.NodeRef("n1"), Phase: autoheal.Recovered, Times: 2},
		{Kind: autoheal.NodeOffline, Subject: autoheal.NodeRef("n2"), Phase: autoheal.Cleared, Optional: true},
	}
	r := node("n1", autoheal.Recovered)
	one(t, judgeIncidents([]autoheal.Incident{r, r}, want), "")
	one(t, judgeIncidents([]autoheal.Incident{r, node("n2", autoheal.Cleared), r}, want), "")
	one(t, judgeIncidents([]autoheal.Incident{r}, want), "missing")
	one(t, judgeIncidents([]autoheal.Incident{r, r, r}, want), "was not expected")
	one(t, judgeIncidents([]autoheal.Incident{r, r, node("n3", autoheal.Cleared)}, want), "was not expected")
	one(t, judgeIncidents([]autoheal.Incident{r, r, node("n2", autoheal.Escalated)}, want), "(expected cleared)")
	if got := judgeIncidents([]autoheal.Incident{r, node("n1", autoheal.Escalated)}, want); len(got) != 2 {
		t.Errorf("a wrong end is one too many and one too few: %q", got)
	}
}

func records(t *testing.T, rows ...string) []journalRow {
	t.Helper()
	var out []journalRow
	for i, r := range rows {
		kind, data, _ := strings.Cut(r, " ")
		if data == "" {
			data = "{}"
		}
		if !json.Valid([]byte(data)) {
			t.Fatalf("record %q is no JSON", data)
		}
		out = append(out, journalRow{Seq: uint64(i + 1), Type: kind, Data: json.RawMessage(data)})
	}
	return out
}

func intent(id, verb, kind, target string, attempt int) string {
	return fmt.Sprintf(`intent {"action":{"id":%q,"verb":%q,"target":{"kind":%q,"id":%q},"params":{"attempt":%d}}}`, id, verb, kind, target, attempt)
}

func TestJournal(t *testing.T) {
	restart, cordon := intent("a/1", "start", "workload", "wl-1", 2), intent("a/2", "cordon", "node", "n1", 0)
	attempts := []start{{"wl-1", 1}, {"wl-1", 2}}
	for name, tc := range map[string]struct {
		rows     []journalRow
		attempts []start
		marked   []autoheal.NodeID
		want     string
	}{
		"in order":             {records(t, "engine_started", restart, cordon, `result {"action":"a/1"}`), attempts, []autoheal.NodeID{"n1"}, ""},
		"sent again":           {records(t, restart, restart, `result {"action":"a/1"}`), attempts, nil, ""},
		"result first":         {records(t, `result {"action":"a/1"}`, restart), attempts, nil, "no intent before it"},
		"attempt from nowhere": {records(t, "engine_started"), attempts, nil, "no start of it was written down"},
		"mark from nowhere":    {records(t, restart), attempts, []autoheal.NodeID{"n1"}, "no cordon of it"},
		"ordered twice":        {records(t, restart, intent("a/9", "start", "workload", "wl-1", 2)), attempts, nil, "ordered twice"},
		"unreadable":           {records(t, restart, `intent []`), attempts, nil, "record 2"},
	} {
		t.Run(name, func(t *testing.T) { one(t, judgeJournal(tc.rows, tc.attempts, tc.marked), tc.want) })
	}
	gap := records(t, "engine_started", "notice")
	gap[1].Seq = 3
	one(t, judgeJournal(gap, nil, nil), "record 3 follows record 1")
	damaged := records(t, "engine_started")
	damaged[0].Problem = "crc"
	one(t, judgeJournal(damaged, nil, nil), "damaged")
}

func TestComplete(t *testing.T) {
	for name, tc := range map[string]struct {
		mutate func(*state, map[autoheal.WorkloadID]process)
		want   bool
	}{
		"all seen":    {nil, true},
		"one between": {func(_ *state, p map[autoheal.WorkloadID]process) { delete(p, "wl-2") }, false},
		"one that need not have one": {func(st *state, p map[autoheal.WorkloadID]process) {
			st.Workloads[1].State = autoheal.Failed
			delete(p, "wl-2")
		}, true},
	} {
		if got, why := snap(tc.mutate).complete(); got != tc.want || got == (why != "") {
			t.Errorf("%s: %v %q", name, got, why)
		}
	}
}
