package drill

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"autoheal.dev/autoheal"
)

func TestDrillsAreDescribed(t *testing.T) {
	seen := map[string]bool{}
	for _, d := range All() {
		if !regexp.MustCompile(`^[a-z]+(-[a-z]+)*$`).MatchString(d.Name) || seen[d.Name] {
			t.Errorf("drill %q needs a name of its own", d.Name)
		}
		seen[d.Name] = true
		if !strings.HasSuffix(d.Doc, ".") || len(d.Doc) < 40 {
			t.Errorf("%s: %q is no sentence", d.Name, d.Doc)
		}
		if !slices.Contains([]string{Recovered, Escalated, Held, Cleared}, d.Expected) || d.Kind == "" || d.Nodes < 2 || d.Run == nil {
			t.Errorf("%s is incomplete: %+v", d.Name, d)
		}
	}
}

func TestFind(t *testing.T) {
	got, err := Find([]string{"oom", "node-crash"})
	if err != nil || len(got) != 2 || got[0].Name != "oom" || got[1].Name != "node-crash" {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := Find([]string{"nope"}); err == nil || !strings.Contains(err.Error(), "node-crash") {
		t.Errorf("got %v, want the names that there are", err)
	}
}

func TestOverlap(t *testing.T) {
	for name, tc := range map[string]struct {
		log  string
		want time.Duration
		err  string
	}{
		"apart":       {"1 10.00\n1 10.10\n2 13.05\n2 13.15\n", 0, ""},
		"together":    {"1 10.00\n2 10.05\n1 10.10\n2 10.15\n", 50 * time.Millisecond, ""},
		"three":       {"1 1.0\n1 2.0\n2 5.0\n2 6.0\n3 5.5\n3 9.0\n", 500 * time.Millisecond, ""},
		"inside":      {"1 1.0\n2 2.0\n2 3.0\n1 9.0\n", time.Second, ""},
		"cut off":     {"1 10.00\n2 13.00\n2 13.1", 0, ""},
		"one only":    {"1 10.00\n", 0, "1 generations wrote"},
		"nothing":     {"", 0, "0 generations wrote"},
		"unreadable":  {"1 soon\n2 3.0\n", 0, "1 soon"},
		"out of turn": {"2 13.00\n1 10.00\n", 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := overlap(tc.log)
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Errorf("got %v, want %q", err, tc.err)
				}
				return
			}
			if err != nil || got != tc.want {
				t.Errorf("got %s, %v; want %s", got, err, tc.want)
			}
		})
	}
}

func TestSpread(t *testing.T) {
	for name, tc := range map[string]struct {
		first, last uint64
		n           int
		want        []uint64
	}{
		"even":      {10, 30, 4, []uint64{15, 20, 25, 30}},
		"few":       {10, 13, 10, []uint64{11, 12, 13}},
		"none":      {10, 10, 10, nil},
		"backwards": {10, 9, 10, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if got := spread(tc.first, tc.last, tc.n); !slices.Equal(got, tc.want) {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
}

func TestEndingTellsEveryDifference(t *testing.T) {
	base := func() (*state, []process) {
		return &state{
			Nodes:     []nodeState{{ID: "n1", Status: autoheal.StatusOffline, CordonedBy: []string{"autoheal"}}},
			Workloads: []workloadState{{ID: "w2", Attempt: 2, State: autoheal.Running, Node: "n2"}, {ID: "w1", State: autoheal.Running, Node: "n2"}},
			Incidents: []autoheal.Incident{{ID: "i", Kind: autoheal.NodeOffline, Subject: autoheal.NodeRef("n1"), Phase: autoheal.Recovered}},
			Alerts:    []alertState{{Name: "b", Severity: "info"}, {Name: "a", Severity: "info"}},
		}, []process{
			{PID: 1, Role: roleShim, Workload: "w1"}, {PID: 2, Role: roleShim, Workload: "w2"},
		}
	}
	want := endingOf(base())
	for part, mutate := range map[string]func(*state, *[]process){
		"":          func(st *state, _ *[]process) { slices.Reverse(st.Alerts); slices.Reverse(st.Workloads) }, // order does not matter
		"workloads": func(st *state, _ *[]process) { st.Workloads[0].Attempt = 3 },
		"processes": func(_ *state, all *[]process) { *all = append(*all, process{PID: 3, Role: roleShim, Workload: "w1"}) },
		"nodes":     func(st *state, _ *[]process) { st.Nodes[0].CordonedBy = nil },
		"incidents": func(st *state, _ *[]process) { st.Incidents = append(st.Incidents, st.Incidents[0]) },
		"alerts":    func(st *state, _ *[]process) { st.Alerts = st.Alerts[:1] },
	} {
		t.Run(part, func(t *testing.T) {
			st, all := base()
			mutate(st, &all)
			if part != "" {
				part = "the " + part + " differ"
			}
			one(t, want.differences(endingOf(st, all)), part)
		})
	}
}

func TestMissingCgroups(t *testing.T) {
	point := t.TempDir()
	line := func(kind, super string) string { return "31 1 0:1 / " + point + " rw - " + kind + " x " + super + "\n" }
	for name, tc := range map[string]struct{ info, want string }{
		"version 1":     {line("cgroup", "rw,memory"), ""},
		"no controller": {line("cgroup", "rw,cpu"), "no memory controller"},
		"empty v2":      {line("cgroup2", "rw"), "no memory controller"},
		"no mount":      {"", "no memory controller"},
		"no right":      {strings.ReplaceAll(line("cgroup", "rw,memory"), point, point+"/missing"), "no right"},
	} {
		t.Run(name, func(t *testing.T) {
			got := missingCgroups(tc.info)
			if tc.want == "" && got != "" || !strings.Contains(got, tc.want) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestGlobalOOM(t *testing.T) {
	const global, own = autoheal.OOMHostGlobal, autoheal.OOMHostCgroup
	lineage := func(restarts int, rows ...attemptRow) workloadDetails {
		for i := range rows {
			rows[i].Attempt = i + 1
		}
		return workloadDetails{Restarts: restarts, Lineage: rows}
	}
	killed := func(node autoheal.NodeID, mb int64, by autoheal.OOMKind) attemptRow {
		return attemptRow{NodeID: node, MemoryMB: mb, Exit: &autoheal.Exit{OOM: by}}
	}
	now := func(node autoheal.NodeID, mb int64) attemptRow { return attemptRow{NodeID: node, MemoryMB: mb} }
	for name, tc := range map[string]struct {
		d    workloadDetails
		want string
	}{
		"spared":     {lineage(0, now("n1", 9)), ""},
		"elsewhere":  {lineage(0, killed("n1", 9, global), now("n2", 9)), ""},
		"and back":   {lineage(0, killed("n1", 9, global), killed("n2", 9, global), now("n1", 9)), ""},
		"same node":  {lineage(0, killed("n1", 9, global), now("n1", 9)), "attempt 2 should be on another node"},
		"scaled":     {lineage(0, killed("n1", 9, global), now("n2", 14)), "the memory of the one before"},
		"own limit":  {lineage(0, killed("n1", 9, own), now("n2", 9)), "attempt 1 should have ended by"},
		"no account": {lineage(0, now("n1", 9), now("n2", 9)), "attempt 1 should have ended by"},
		"counted":    {lineage(1, killed("n1", 9, global), now("n2", 9)), "held against it"},
	} {
		t.Run(name, func(t *testing.T) {
			got := judgeGlobalOOM(tc.d)
			if tc.want == "" && got != "" || !strings.Contains(got, tc.want) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}
