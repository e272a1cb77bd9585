package place_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/place"
)

// node returns a usable node with n GPUs of the model, 8 cores and 64000 MB.
func node(id string, n int, model string) *autoheal.Node {
	out := &autoheal.Node{
		ID: autoheal.NodeID(id), BootID: "b1", Link: autoheal.LinkUp, Ready: true, Schedulable: true,
		Allocatable: autoheal.Resources{CPUMilli: 8000, MemoryMB: 64000, Pids: 1000, GPUs: n},
	}
	for i := range n {
		out.GPUs = append(out.GPUs, autoheal.GPU{
			UUID: autoheal.GPUID(fmt.Sprintf("%s-g%d", id, i)), Index: i, Model: model, MemoryMB: 80000, Health: autoheal.HealthOK,
		})
	}
	return out
}

func running(id string, node autoheal.NodeID, gpus ...autoheal.GPUID) *autoheal.Workload {
	return &autoheal.Workload{
		ID: autoheal.WorkloadID(id), Attempt: 1, State: autoheal.Running, Node: node, GPUs: gpus,
		Request: autoheal.Resources{GPUs: len(gpus)},
	}
}

func gpus(n int) place.Request {
	return place.Request{Workload: "w", Need: autoheal.Resources{GPUs: n}}
}

func index(nodes ...*autoheal.Node) *place.Index {
	x := place.New()
	for _, n := range nodes {
		x.SetNode(n)
	}
	return x
}

func mustFit(t *testing.T, x *place.Index, r place.Request) place.Spot {
	t.Helper()
	spot, ref := x.Fit(r)
	if ref != nil {
		t.Fatalf("no place: %s", ref.Detail)
	}
	return spot
}

func mustRefuse(t *testing.T, x *place.Index, r place.Request, words ...string) {
	t.Helper()
	spot, ref := x.Fit(r)
	if ref == nil {
		t.Fatalf("placed on %v, want a refusal", spot)
	}
	if ref.Reason != autoheal.ReasonNoCapacity {
		t.Errorf("reason %q", ref.Reason)
	}
	for _, w := range words {
		if !strings.Contains(ref.Detail, w) {
			t.Errorf("detail %q lacks %q", ref.Detail, w)
		}
	}
}

func TestFitPacksGPUWork(t *testing.T) {
	x := index(node("n1", 8, "H100"), node("n2", 4, "H100"), node("n3", 4, "H100"))
	x.SetWorkload(running("a", "n3", "n3-g0"))
	spot := mustFit(t, x, gpus(3))
	if want := []autoheal.GPUID{"n3-g1", "n3-g2", "n3-g3"}; spot.Node != "n3" || !slices.Equal(spot.GPUs, want) {
		t.Errorf("got %v, want the node that is left without a free GPU", spot)
	}
	if spot := mustFit(t, x, gpus(4)); spot.Node != "n2" {
		t.Errorf("four GPUs went to %s, want n2, which they fill", spot.Node)
	}
	if spot := mustFit(t, x, gpus(5)); spot.Node != "n1" {
		t.Errorf("five GPUs went to %s, want n1", spot.Node)
	}
	mustRefuse(t, x, gpus(9), "9 × GPU", "n1 has 8 of 8 GPUs free")
}

func TestFitTiesByNodeID(t *testing.T) {
	x := index(node("n2", 2, "H100"), node("n1", 2, "H100"), node("n3", 2, "H100"))
	if spot := mustFit(t, x, gpus(1)); spot.Node != "n1" {
		t.Errorf("got %s, want n1", spot.Node)
	}
}

func TestFitAsksForModelAndMemory(t *testing.T) {
	x := index(node("a1", 8, "NVIDIA A100-SXM4-80GB"), node("h1", 4, "NVIDIA H100 80GB HBM3"))
	r := gpus(2)
	r.Need.GPUModel = "h100"
	if spot := mustFit(t, x, r); spot.Node != "h1" {
		t.Errorf("got %s, want the node with H100", spot.Node)
	}
	r.Need.GPUMemoryMB = 90000
	mustRefuse(t, x, r, "90000 MB each")
}

func TestFitUsesOneNodeWithMixedModels(t *testing.T) {
	n := node("n1", 4, "A100")
	n.GPUs[1].Model, n.GPUs[3].Model = "H100", "H100"
	x := index(n)
	r := gpus(2)
	r.Need.GPUModel = "H100"
	if spot := mustFit(t, x, r); !slices.Equal(spot.GPUs, []autoheal.GPUID{"n1-g1", "n1-g3"}) {
		t.Errorf("got %v", spot.GPUs)
	}
	mustFit(t, x, gpus(4))
	r.Need.GPUs = 3
	mustRefuse(t, x, r)
}

func TestFitRanksHealth(t *testing.T) {
	n1, n2, n3 := node("n1", 1, "H100"), node("n2", 1, "H100"), node("n3", 2, "H100")
	n1.GPUs[0].Health, n2.GPUs[0].Health = autoheal.HealthUnknown, autoheal.HealthDegraded
	x := index(n1, n2, n3)
	for _, want := range []autoheal.NodeID{"n3", "n3", "n2", "n1"} {
		spot := mustFit(t, x, gpus(1))
		if spot.Node != want {
			t.Fatalf("got %s, want %s: ok before degraded before unknown", spot.Node, want)
		}
		x.SetWorkload(running("w-"+string(spot.GPUs[0]), spot.Node, spot.GPUs...))
	}
	mustRefuse(t, x, gpus(1))
}

func TestUnknownAfterBadIsNotTrusted(t *testing.T) {
	n := node("n1", 1, "H100")
	x := index(n)
	set := func(h autoheal.Health, boot string) {
		n.GPUs[0].Health, n.BootID = h, boot
		x.SetNode(n)
	}
	set(autoheal.HealthUnknown, "b1")
	mustFit(t, x, gpus(1))
	set(autoheal.HealthFailed, "b1")
	mustRefuse(t, x, gpus(1))
	set(autoheal.HealthUnknown, "b1")
	mustRefuse(t, x, gpus(1))
	set(autoheal.HealthOK, "b1")
	mustFit(t, x, gpus(1))
	set(autoheal.HealthDegraded, "b1")
	set(autoheal.HealthUnknown, "b2")
	mustFit(t, x, gpus(1))
}

func TestFitRefusesUnusableNodes(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*autoheal.Node)
		says  string
	}{
		"silent":      {func(n *autoheal.Node) { n.Link = autoheal.LinkSilent }, "n1 is silent"},
		"unknown":     {func(n *autoheal.Node) { n.Link = autoheal.LinkUnknown }, "n1 has not been reached"},
		"notReady":    {func(n *autoheal.Node) { n.Ready = false }, "n1 is not ready"},
		"draining":    {func(n *autoheal.Node) { n.Draining = true }, "n1 is being drained"},
		"cordoned":    {func(n *autoheal.Node) { n.Schedulable = false; n.Marks = []autoheal.Mark{{By: "ann"}} }, "n1 is cordoned"},
		"failed":      {func(n *autoheal.Node) { n.GPUs[0].Health = autoheal.HealthFailed }, "n1 has 1 of 2 GPUs free"},
		"quarantined": {func(n *autoheal.Node) { n.GPUs[1].Quarantined = &autoheal.Mark{By: "autoheal"} }, "n1 has 1 of 2 GPUs free"},
		"memory":      {func(n *autoheal.Node) { n.Allocatable.MemoryMB = 10 }, "n1 has 10 of 10 MB memory free"},
		"cpu":         {func(n *autoheal.Node) { n.Allocatable.CPUMilli = 500 }, "n1 has 0.5 of 0.5 CPU free"},
		"labels":      {func(n *autoheal.Node) { n.Labels = map[string]string{"pool": "other"} }, "n1 has other labels"},
	} {
		t.Run(name, func(t *testing.T) {
			n := node("n1", 2, "H100")
			n.Labels = map[string]string{"pool": "train"}
			r := gpus(2)
			r.Need.MemoryMB, r.Need.CPUMilli, r.Selector = 100, 1000, map[string]string{"pool": "train"}
			x := index(n)
			mustFit(t, x, r)
			c.spoil(n)
			x.SetNode(n)
			mustRefuse(t, x, r, c.says)
		})
	}
}

func TestFitAvoids(t *testing.T) {
	x := index(node("n1", 2, "H100"), node("n2", 4, "H100"))
	r := gpus(2)
	r.Avoid = []autoheal.NodeID{"n1"}
	r.AvoidGPUs = []autoheal.GPUID{"n2-g0"}
	if spot := mustFit(t, x, r); spot.Node != "n2" || slices.Contains(spot.GPUs, "n2-g0") {
		t.Errorf("got %v", spot)
	}
	r.Avoid = append(r.Avoid, "n2")
	mustRefuse(t, x, r, "n1 is to be avoided")
}

func TestNominationReservesForItsOwner(t *testing.T) {
	x := index(node("n1", 2, "H100"), node("n2", 4, "H100"))
	x.SetWorkload(&autoheal.Workload{
		ID: "vip", Attempt: 2, State: autoheal.Pending, Node: "n1", GPUs: []autoheal.GPUID{"n1-g0", "n1-g1"},
		Request: autoheal.Resources{GPUs: 2},
	})
	if spot := mustFit(t, x, gpus(2)); spot.Node != "n2" {
		t.Errorf("a stranger got the reserved %s", spot.Node)
	}
	vip := gpus(2)
	vip.Workload = "vip"
	if spot := mustFit(t, x, vip); spot.Node != "n1" {
		t.Errorf("the owner of the reservation got %s", spot.Node)
	}
	other := gpus(1)
	other.Nominated = "n2"
	if spot := mustFit(t, x, other); spot.Node != "n2" {
		t.Errorf("nominated n2, got %s", spot.Node)
	}
	other.Nominated = "n9"
	mustFit(t, x, other)
}

func TestWorkWithoutGPUsSpreadsAndKeepsOffGPUNodes(t *testing.T) {
	x := index(node("g1", 8, "H100"), node("c1", 0, ""), node("c2", 0, ""))
	got := map[autoheal.NodeID]int{}
	for i := range 4 {
		spot := mustFit(t, x, place.Request{Workload: autoheal.WorkloadID(fmt.Sprint("w", i))})
		x.SetWorkload(running(fmt.Sprint("w", i), spot.Node))
		got[spot.Node]++
	}
	if got["c1"] != 2 || got["c2"] != 2 {
		t.Errorf("spread as %v, want two on each node without GPUs", got)
	}
	big := place.Request{Workload: "big", Need: autoheal.Resources{CPUMilli: 8000}}
	x.SetWorkload(&autoheal.Workload{ID: "c", Attempt: 1, State: autoheal.Running, Node: "c1", Request: autoheal.Resources{CPUMilli: 1}})
	x.SetWorkload(&autoheal.Workload{ID: "d", Attempt: 1, State: autoheal.Running, Node: "c2", Request: autoheal.Resources{CPUMilli: 1}})
	if spot := mustFit(t, x, big); spot.Node != "g1" {
		t.Errorf("got %s, want the node with GPUs where nothing else has room", spot.Node)
	}
}

func TestReplicasSpread(t *testing.T) {
	x := index(node("n1", 4, "H100"), node("n2", 8, "H100"))
	r := gpus(1)
	r.SpreadFrom = []autoheal.NodeID{"n1"}
	if spot := mustFit(t, x, r); spot.Node != "n2" {
		t.Errorf("second replica on %s, want n2", spot.Node)
	}
	r.SpreadFrom = []autoheal.NodeID{"n1", "n2", "n2"}
	if spot := mustFit(t, x, r); spot.Node != "n1" {
		t.Errorf("fourth replica on %s, want n1, which has fewer", spot.Node)
	}
}

func TestEndedAttemptsRelease(t *testing.T) {
	x := index(node("n1", 1, "H100"))
	w := running("a", "n1", "n1-g0")
	x.SetWorkload(w)
	mustRefuse(t, x, gpus(1))
	older := *w
	w.Attempt = 2
	x.SetWorkload(w)
	x.RemoveWorkload("a", 2)
	mustRefuse(t, x, gpus(1))
	older.State = autoheal.Failed
	x.SetWorkload(&older)
	mustFit(t, x, gpus(1))
}

func TestHoldingsOutliveTheirNode(t *testing.T) {
	n := node("n1", 1, "H100")
	x := place.New()
	x.SetWorkload(running("a", "n1", "n1-g0"))
	mustRefuse(t, x, gpus(1), "no node is known")
	x.SetNode(n)
	mustRefuse(t, x, gpus(1))
	x.RemoveNode("n1")
	x.SetNode(n)
	mustRefuse(t, x, gpus(1))
	x.RemoveWorkload("a", 1)
	mustFit(t, x, gpus(1))
}

func TestFitAllIsWholeOrNothing(t *testing.T) {
	x := index(node("n1", 2, "H100"), node("n2", 2, "H100"))
	gang := func(n, each int) []place.Request {
		var rs []place.Request
		for i := range n {
			r := gpus(each)
			r.Workload = autoheal.WorkloadID(fmt.Sprint("rank-", i))
			rs = append(rs, r)
		}
		return rs
	}
	spots, ref := x.FitAll(gang(4, 1))
	if ref != nil {
		t.Fatal(ref.Detail)
	}
	seen := map[autoheal.GPUID]bool{}
	for _, s := range spots {
		if seen[s.GPUs[0]] {
			t.Fatalf("GPU %s given twice", s.GPUs[0])
		}
		seen[s.GPUs[0]] = true
	}
	if spots, ref := x.FitAll(gang(5, 1)); ref == nil || spots != nil {
		t.Errorf("five on four: %v", spots)
	} else if !strings.Contains(ref.Detail, "needs 5 placements at once") {
		t.Errorf("detail %q", ref.Detail)
	}
	if got := x.Free("n1").GPUs + x.Free("n2").GPUs; got != 4 {
		t.Errorf("%d GPUs free after trials, want 4", got)
	}
	mixed := append(gang(2, 1), gpus(2))
	if spots, ref := x.FitAll(mixed); ref != nil || len(spots[2].GPUs) != 2 {
		t.Errorf("largest first should place all: %v %v", spots, ref)
	}
}

func TestLargestMemory(t *testing.T) {
	big, small := node("n1", 0, ""), node("n2", 2, "H100")
	big.Allocatable.MemoryMB = 512000
	x := index(big, small)
	x.SetWorkload(&autoheal.Workload{ID: "a", Attempt: 1, State: autoheal.Running, Node: "n2", Request: autoheal.Resources{MemoryMB: 60000}})
	if got := x.LargestMemory(place.Request{Need: autoheal.Resources{MemoryMB: 1 << 40}}); got != 512000 {
		t.Errorf("got %d, want that of the largest node whatever is asked for now", got)
	}
	if got := x.LargestMemory(gpus(2)); got != 64000 {
		t.Errorf("got %d, want the allocatable (not the free) memory of the only node with GPUs", got)
	}
	if got := x.LargestMemory(gpus(3)); got != 0 {
		t.Errorf("got %d for a request that no node could host", got)
	}
}

func TestRefusalIsBounded(t *testing.T) {
	x := place.New()
	for i := range 500 {
		n := node(fmt.Sprintf("node-with-a-rather-long-name-in-a-large-cluster-%03d", i), 8, "H100")
		n.Schedulable = i%2 == 0
		x.SetNode(n)
	}
	_, ref := x.Fit(gpus(9))
	if ref == nil || len(ref.Detail) > 400 || !strings.Contains(ref.Detail, "takes no new work") {
		t.Errorf("got %+v", ref)
	}
}

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func cheap(id string, prio int, on autoheal.NodeID, gpus ...autoheal.GPUID) *autoheal.Workload {
	w := running(id, on, gpus...)
	w.Preemptible, w.Priority, w.StartedAt = true, prio, start
	return w
}

func anyone(autoheal.WorkloadID) bool { return true }

// victims is who would have to stop for one request.
func victims(x *place.Index, r place.Request, gap int, candidates func(autoheal.WorkloadID) bool) ([]autoheal.WorkloadID, *place.Refusal) {
	return victimsOf(x, []place.Request{r}, gap, candidates)
}

func victimsOf(x *place.Index, rs []place.Request, gap int, candidates func(autoheal.WorkloadID) bool) ([]autoheal.WorkloadID, *place.Refusal) {
	room, ref := x.MakeRoom(rs, gap, candidates)
	return room.Victims, ref
}

func urgent(n int) place.Request {
	r := gpus(n)
	r.Priority, r.Now = 95, start.Add(time.Hour)
	return r
}

func TestVictims(t *testing.T) {
	for _, c := range []struct {
		name string
		on   []*autoheal.Workload
		need int
		want []autoheal.WorkloadID // nil: nobody may be touched
	}{
		{"fewest workloads", []*autoheal.Workload{
			cheap("one", 1, "n1", "n1-g0"), cheap("two", 1, "n1", "n1-g1"),
			cheap("wide", 20, "n2", "n2-g0", "n2-g1"),
		}, 2, []autoheal.WorkloadID{"wide"}},
		{"then lowest priority", []*autoheal.Workload{
			cheap("mid", 30, "n1", "n1-g0", "n1-g1"), cheap("low", 5, "n2", "n2-g0", "n2-g1"),
		}, 2, []autoheal.WorkloadID{"low"}},
		{"gap of ten", []*autoheal.Workload{
			cheap("near", 86, "n1", "n1-g0", "n1-g1"), cheap("far", 85, "n2", "n2-g0", "n2-g1"),
		}, 1, []autoheal.WorkloadID{"far"}},
		{"not preemptible", []*autoheal.Workload{
			running("a", "n1", "n1-g0", "n1-g1"), running("b", "n2", "n2-g0", "n2-g1"),
		}, 1, nil},
		{"never in vain", []*autoheal.Workload{
			cheap("a", 1, "n1", "n1-g0"), running("b", "n1", "n1-g1"), running("c", "n2", "n2-g0", "n2-g1"),
		}, 2, nil},
		{"nobody where it fits", []*autoheal.Workload{cheap("a", 1, "n1", "n1-g0")}, 1, []autoheal.WorkloadID{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := index(node("n1", 2, "H100"), node("n2", 2, "H100"))
			for _, w := range c.on {
				x.SetWorkload(w)
			}
			got, ref := victims(x, urgent(c.need), 10, anyone)
			if (ref != nil) != (c.want == nil) || !slices.Equal(got, c.want) {
				t.Fatalf("got %v (%+v), want %v", got, ref, c.want)
			}
			for _, id := range got {
				x.RemoveWorkload(id, 1)
			}
			if c.want != nil {
				mustFit(t, x, urgent(c.need))
			}
		})
	}
}

func TestVictimsLeastGPUSeconds(t *testing.T) {
	x := index(node("n1", 1, "H100"), node("n2", 1, "H100"))
	old, young := cheap("old", 5, "n1", "n1-g0"), cheap("young", 5, "n2", "n2-g0")
	young.StartedAt = start.Add(30 * time.Minute)
	x.SetWorkload(old)
	x.SetWorkload(young)
	if got, _ := victims(x, urgent(1), 10, anyone); !slices.Equal(got, []autoheal.WorkloadID{"young"}) {
		t.Errorf("got %v, want the one with less to lose", got)
	}
	only := func(id autoheal.WorkloadID) bool { return id == "old" }
	if got, _ := victims(x, urgent(1), 10, only); !slices.Equal(got, []autoheal.WorkloadID{"old"}) {
		t.Errorf("got %v, want what the caller allows", got)
	}
}

func TestVictimsTakeGangsWhole(t *testing.T) {
	x := index(node("n1", 1, "H100"), node("n2", 1, "H100"), node("n3", 1, "H100"))
	a, b := cheap("a", 1, "n1", "n1-g0"), cheap("b", 1, "n2", "n2-g0")
	a.Gang, b.Gang = "team", "team"
	x.SetWorkload(a)
	x.SetWorkload(b)
	x.SetWorkload(cheap("single", 40, "n3", "n3-g0"))
	if got, _ := victims(x, urgent(1), 10, anyone); !slices.Equal(got, []autoheal.WorkloadID{"single"}) {
		t.Errorf("got %v: one workload of higher priority is fewer than a gang of two", got)
	}
	x.RemoveWorkload("single", 1)
	x.SetWorkload(running("single", "n3", "n3-g0"))
	if got, _ := victims(x, urgent(1), 10, anyone); !slices.Equal(got, []autoheal.WorkloadID{"a", "b"}) {
		t.Errorf("got %v, want the whole gang", got)
	}
	b.Preemptible = false
	x.SetWorkload(b)
	b.Request.CPUMilli = 1 // a change of what is held, so that the new flag is taken over either way
	x.SetWorkload(b)
	if got, ref := victims(x, urgent(1), 10, anyone); ref == nil {
		t.Errorf("got %v, want nobody: a member of the gang may not be stopped", got)
	}
}

func TestVictimsManySmall(t *testing.T) {
	x := index(node("n1", 8, "H100"))
	for i := range 8 {
		x.SetWorkload(cheap(fmt.Sprint("w", i), i, "n1", autoheal.GPUID(fmt.Sprint("n1-g", i))))
	}
	got, ref := victims(x, urgent(5), 10, anyone)
	if ref != nil || len(got) != 5 {
		t.Fatalf("got %v (%+v), want five", got, ref)
	}
	if x.Free("n1").GPUs != 0 {
		t.Error("the search changed the index")
	}
}

func TestVictimsAllForAGang(t *testing.T) {
	x := index(node("n1", 2, "H100"), node("n2", 2, "H100"))
	for i, g := range []autoheal.GPUID{"n1-g0", "n1-g1", "n2-g0", "n2-g1"} {
		x.SetWorkload(cheap(fmt.Sprint("w", i), i, g2node(g), g))
	}
	rs := []place.Request{urgent(2), urgent(1)}
	rs[1].Workload = "w2-of-gang"
	got, ref := victimsOf(x, rs, 10, anyone)
	if ref != nil || len(got) != 3 {
		t.Fatalf("got %v (%+v), want three", got, ref)
	}
	for _, id := range got {
		x.RemoveWorkload(id, 1)
	}
	if _, ref := x.FitAll(rs); ref != nil {
		t.Error(ref.Detail)
	}
}

func g2node(g autoheal.GPUID) autoheal.NodeID {
	n, _, _ := strings.Cut(string(g), "-")
	return autoheal.NodeID(n)
}
