package place_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/place"
)

// model is the obvious implementation that the index is compared with: everything is computed from nothing.
type model struct {
	nodes map[autoheal.NodeID]*autoheal.Node
	held  map[string]*autoheal.Workload
}

func (m *model) fitsOn(r place.Request, n *autoheal.Node) bool {
	if n.Link != autoheal.LinkUp || !n.Ready || !n.Schedulable || n.Draining || slices.Contains(r.Avoid, n.ID) {
		return false
	}
	for k, v := range r.Selector {
		if n.Labels[k] != v {
			return false
		}
	}
	mem, cpu, used := n.Allocatable.MemoryMB, n.Allocatable.CPUMilli, map[autoheal.GPUID]bool{}
	for _, w := range m.held {
		if w.Node == n.ID {
			mem, cpu = mem-w.Request.MemoryMB, cpu-w.Request.CPUMilli
			for _, g := range w.GPUs {
				used[g] = true
			}
		}
	}
	free := 0
	for _, g := range n.GPUs {
		if !used[g.UUID] && g.Quarantined == nil && g.Health != autoheal.HealthFailed && g.MemoryMB >= r.Need.GPUMemoryMB &&
			strings.Contains(strings.ToLower(g.Model), strings.ToLower(r.Need.GPUModel)) && !slices.Contains(r.AvoidGPUs, g.UUID) {
			free++
		}
	}
	return free >= r.Need.GPUs && (r.Need.MemoryMB == 0 || mem >= r.Need.MemoryMB) && (r.Need.CPUMilli == 0 || cpu >= r.Need.CPUMilli)
}

func drawNode(t *rapid.T, i int) *autoheal.Node {
	n := node(fmt.Sprintf("n%d", i), rapid.IntRange(0, 4).Draw(t, "gpus"), "")
	n.Allocatable.MemoryMB = int64(rapid.SampledFrom([]int{1000, 2000, 4000}).Draw(t, "memory"))
	n.Allocatable.CPUMilli = int64(rapid.SampledFrom([]int{1000, 4000}).Draw(t, "cpu"))
	n.Labels = map[string]string{"pool": rapid.SampledFrom([]string{"a", "b"}).Draw(t, "pool")}
	n.Schedulable = rapid.IntRange(0, 4).Draw(t, "schedulable") > 0
	n.Link = rapid.SampledFrom([]autoheal.LinkState{autoheal.LinkUp, autoheal.LinkUp, autoheal.LinkUp, autoheal.LinkSilent}).Draw(t, "link")
	for g := range n.GPUs {
		n.GPUs[g].Model = rapid.SampledFrom([]string{"NVIDIA H100", "NVIDIA A100"}).Draw(t, "model")
		n.GPUs[g].MemoryMB = int64(rapid.SampledFrom([]int{40000, 80000}).Draw(t, "gpuMemory"))
		// Unknown is left out: it depends on what was seen before, which has a test of its own.
		n.GPUs[g].Health = rapid.SampledFrom([]autoheal.Health{autoheal.HealthOK, autoheal.HealthDegraded, autoheal.HealthFailed}).Draw(t, "health")
		if rapid.IntRange(0, 5).Draw(t, "quarantine") == 0 {
			n.GPUs[g].Quarantined = &autoheal.Mark{By: autoheal.ByAutoheal}
		}
	}
	return n
}

func drawRequest(t *rapid.T, id string) place.Request {
	r := place.Request{Workload: autoheal.WorkloadID(id), Need: autoheal.Resources{
		GPUs:        rapid.IntRange(0, 3).Draw(t, "need"),
		MemoryMB:    int64(rapid.SampledFrom([]int{0, 500, 1500}).Draw(t, "needMemory")),
		CPUMilli:    int64(rapid.SampledFrom([]int{0, 500}).Draw(t, "needCPU")),
		GPUModel:    rapid.SampledFrom([]string{"", "", "h100"}).Draw(t, "needModel"),
		GPUMemoryMB: int64(rapid.SampledFrom([]int{0, 0, 80000}).Draw(t, "needGPUMemory")),
	}}
	if rapid.Bool().Draw(t, "select") {
		r.Selector = map[string]string{"pool": "a"}
	}
	if rapid.Bool().Draw(t, "avoid") {
		r.Avoid = []autoheal.NodeID{"n1"}
		r.AvoidGPUs = []autoheal.GPUID{"n2-g0"}
	}
	if rapid.Bool().Draw(t, "spread") {
		r.SpreadFrom = []autoheal.NodeID{"n0", "n3"}
	}
	return r
}

// TestIndexAgreesWithModel changes an index at random and checks after every change that a request fits exactly when the
// model says so, on a node where the model says so, that nothing is ever given twice, and that the index answers like one
// built from nothing.
func TestIndexAgreesWithModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x, m := place.New(), &model{nodes: map[autoheal.NodeID]*autoheal.Node{}, held: map[string]*autoheal.Workload{}}
		count := 0
		t.Repeat(map[string]func(*rapid.T){
			"node": func(t *rapid.T) {
				n := drawNode(t, rapid.IntRange(0, 5).Draw(t, "node"))
				m.nodes[n.ID] = n
				x.SetNode(n)
			},
			"remove": func(t *rapid.T) {
				id := autoheal.NodeID(fmt.Sprintf("n%d", rapid.IntRange(0, 5).Draw(t, "node")))
				delete(m.nodes, id)
				x.RemoveNode(id)
			},
			"place": func(t *rapid.T) {
				count++
				m.place(t, x, drawRequest(t, fmt.Sprintf("w%d", count)))
			},
			"end": func(t *rapid.T) {
				if len(m.held) == 0 {
					return
				}
				id := rapid.SampledFrom(slices.Sorted(maps.Keys(m.held))).Draw(t, "ended")
				w := *m.held[id]
				delete(m.held, id)
				w.State = autoheal.Succeeded
				x.SetWorkload(&w)
			},
			"": func(t *rapid.T) { m.compare(t, x) },
		})
	})
}

// place asks the index and checks the answer against the model before it takes it over.
func (m *model) place(t *rapid.T, x *place.Index, r place.Request) {
	var could []autoheal.NodeID
	for _, id := range slices.Sorted(maps.Keys(m.nodes)) {
		if m.fitsOn(r, m.nodes[id]) {
			could = append(could, id)
		}
	}
	spot, ref := x.Fit(r)
	if (ref == nil) != (len(could) > 0) {
		t.Fatalf("request %+v: index says %v %+v, model says %v", r, spot, ref, could)
	}
	if ref != nil {
		return
	}
	if !slices.Contains(could, spot.Node) || len(spot.GPUs) != r.Need.GPUs {
		t.Fatalf("request %+v: placed at %v, model says %v", r, spot, could)
	}
	for _, w := range m.held {
		for _, g := range spot.GPUs {
			if slices.Contains(w.GPUs, g) {
				t.Fatalf("GPU %s given to %s and %s", g, w.ID, r.Workload)
			}
		}
	}
	w := &autoheal.Workload{ID: r.Workload, Attempt: 1, State: autoheal.Running, Node: spot.Node, GPUs: spot.GPUs, Request: r.Need}
	m.held[string(w.ID)] = w
	x.SetWorkload(w)
}

// compare checks the index against one that is built anew from the present state.
func (m *model) compare(t *rapid.T, x *place.Index) {
	fresh := place.New()
	for _, w := range m.held {
		fresh.SetWorkload(w)
	}
	for _, n := range m.nodes {
		fresh.SetNode(n)
	}
	for id := range m.nodes {
		if a, b := x.Free(id), fresh.Free(id); a != b {
			t.Fatalf("free on %s: %+v, built anew %+v", id, a, b)
		}
	}
	for n := range 4 {
		r := place.Request{Workload: "probe", Need: autoheal.Resources{GPUs: n, MemoryMB: 500}}
		a, aRef := x.Fit(r)
		b, bRef := fresh.Fit(r)
		if a.Node != b.Node || !slices.Equal(a.GPUs, b.GPUs) || (aRef == nil) != (bRef == nil) {
			t.Fatalf("%d GPUs: %v, built anew %v", n, a, b)
		}
		if aRef != nil && *aRef != *bRef {
			t.Fatalf("%d GPUs: refused with %q, built anew %q", n, aRef.Detail, bRef.Detail)
		}
		if x.LargestMemory(r) != fresh.LargestMemory(r) {
			t.Fatalf("largest memory differs for %d GPUs", n)
		}
	}
}

// TestVictimsSuffice checks that victims are allowed ones, that they make room, and that none of them is superfluous.
func TestVictimsSuffice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x, m := place.New(), &model{nodes: map[autoheal.NodeID]*autoheal.Node{}, held: map[string]*autoheal.Workload{}}
		for i := range 3 {
			n := drawNode(t, i)
			m.nodes[n.ID] = n
			x.SetNode(n)
		}
		for i := range rapid.IntRange(0, 10).Draw(t, "workloads") {
			r := drawRequest(t, fmt.Sprintf("w%d", i))
			spot, ref := x.Fit(r)
			if ref != nil {
				continue
			}
			w := &autoheal.Workload{
				ID: r.Workload, Attempt: 1, State: autoheal.Running, Node: spot.Node, GPUs: spot.GPUs, Request: r.Need,
				Preemptible: rapid.Bool().Draw(t, "preemptible"), Priority: rapid.IntRange(0, 100).Draw(t, "priority"),
				Gang: rapid.SampledFrom([]autoheal.GangID{"", "", "team"}).Draw(t, "gang"),
			}
			m.held[string(w.ID)] = w
			x.SetWorkload(w)
		}
		r := drawRequest(t, "urgent")
		r.Priority = 90
		room, ref := x.MakeRoom([]place.Request{r}, 10, anyone)
		victims := room.Victims
		m.compare(t, x) // the search left no trace
		if ref != nil {
			m.nobodySuffices(t, r)
			return
		}
		for _, id := range victims {
			if w := m.held[string(id)]; !w.Preemptible || w.Priority > 80 {
				t.Fatalf("%s may not be a victim: %+v", id, w)
			}
			for _, o := range m.held {
				if w := m.held[string(id)]; w.Gang != "" && o.Gang == w.Gang && !slices.Contains(victims, o.ID) {
					t.Fatalf("gang %s taken in part: %v", w.Gang, victims)
				}
			}
		}
		for _, id := range victims {
			x.RemoveWorkload(id, 1)
		}
		if _, ref := x.Fit(r); ref != nil {
			t.Fatalf("victims %v do not suffice: %s", victims, ref.Detail)
		}
	})
}

// nobodySuffices stops everybody who may be a victim and expects that even then the model finds no place.
func (m *model) nobodySuffices(t *rapid.T, r place.Request) {
	left := map[string]*autoheal.Workload{}
	gangBlocked := false
	for _, w := range m.held {
		if w.Gang != "" && (!w.Preemptible || w.Priority > 80) {
			gangBlocked = true
		}
	}
	for id, w := range m.held {
		if !w.Preemptible || w.Priority > 80 || (w.Gang != "" && gangBlocked) {
			left[id] = w
		}
	}
	rest := &model{nodes: m.nodes, held: left}
	for _, n := range m.nodes {
		if rest.fitsOn(r, n) {
			t.Fatalf("refused, but stopping all who may be stopped would make room on %s", n.ID)
		}
	}
}
