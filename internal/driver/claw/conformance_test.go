package claw

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/driver/drivertest"
	"autoheal.dev/autoheal/internal/nodeproto"
	"autoheal.dev/autoheal/internal/store"
)

// fleet is a driver over fake agents.
type fleet struct {
	*Driver
	gw     *fakeGateway
	db     *store.DB
	agents map[autoheal.NodeID]*fakeAgent
	dir    string
}

// classify is a plain policy: the label, else by priority; services may run twice.
func classify(s autoheal.Spec, set autoheal.Settings) (autoheal.Class, string, autoheal.WorkloadKind, bool) {
	class, rule, kind := autoheal.Medium, "default", autoheal.KindJob
	if set.Class != "" {
		class, rule = set.Class, "label"
	} else if s.Priority != nil && *s.Priority >= 90 {
		class, rule = autoheal.Critical, "priority"
	}
	if set.Kind != "" {
		kind = set.Kind
	}
	once := kind == autoheal.KindJob
	if set.AtMostOnce != nil {
		once = *set.AtMostOnce
	}
	return class, rule, kind, once
}

func openFleet(t *testing.T, nodes, gpus int) *fleet {
	t.Helper()
	f := &fleet{gw: newFakeGateway(), agents: map[autoheal.NodeID]*fakeAgent{}, dir: t.TempDir()}
	for i := range nodes {
		name := fmt.Sprintf("n%d", i+1)
		f.agents[autoheal.NodeID(name)] = f.gw.add(name, gpus)
	}
	db, err := store.Open(t.Context(), filepath.Join(f.dir, "data", "state.db"), store.Options{Relaxed: true})
	if err != nil {
		t.Fatal(err)
	}
	f.db = db
	t.Cleanup(func() {
		if err := f.Driver.Stop(context.Background()); err != nil {
			t.Error(err)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	f.restart(t, 7)
	return f
}

// restart makes a new driver life on the same registry.
func (f *fleet) restart(t *testing.T, epoch uint64) {
	t.Helper()
	if f.Driver != nil {
		if err := f.Driver.Stop(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	f.Driver = New(Options{
		Operator: f.gw, DB: f.db, Epoch: epoch, SelfStop: 60 * time.Second, Classify: classify,
		Approve: func(string, []string) bool { return true },
	})
	if err := f.Driver.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func spec(name string, labels ...string) autoheal.Spec {
	s := autoheal.Spec{Name: name, Image: autoheal.ImageHost, Command: []string{"/bin/sleep"}, MemoryMB: 100, CPUCores: 0.1, Labels: map[string]string{}}
	for i := 0; i < len(labels); i += 2 {
		s.Labels[labels[i]] = labels[i+1]
	}
	return s
}

func service(name string) autoheal.Spec {
	return spec(name, autoheal.LabelKind, string(autoheal.KindService))
}
func job(name string) autoheal.Spec { return spec(name) }

var commandOf = map[autoheal.Verb]string{autoheal.Start: nodeproto.CmdStart, autoheal.Stop: nodeproto.CmdStop, autoheal.Collect: nodeproto.CmdCollect}

func (f *fleet) harness() drivertest.Harness {
	var mu sync.Mutex
	killed := map[autoheal.NodeID]bool{}
	h := drivertest.Harness{
		Cluster: f.Driver, Workloads: f.Driver, Epoch: 7, Service: service, Job: job, GPUs: 2,
		KillNode: func(id autoheal.NodeID) {
			mu.Lock()
			killed[id] = true
			mu.Unlock()
			f.gw.isolate(f.agents[id], false)
		},
		CutNode: func(id autoheal.NodeID) { f.gw.isolate(f.agents[id], true) },
		HealNode: func(id autoheal.NodeID) {
			mu.Lock()
			boot := killed[id]
			delete(killed, id)
			mu.Unlock()
			f.gw.rejoin(f.agents[id], boot, boot)
		},
		Crash: func(id autoheal.WorkloadID, n int) {
			for _, a := range f.agents {
				a.end(attemptRef{id, n}, &autoheal.Exit{Code: 3, Reason: autoheal.ExitCrashed})
			}
		},
		LoseAnswer: func(id autoheal.NodeID, v autoheal.Verb) {
			f.gw.inject(&fault{device: f.agents[id].device, command: commandOf[v], loseAnswer: true})
		},
		LoseRequest: func(id autoheal.NodeID, v autoheal.Verb) {
			f.gw.inject(&fault{device: f.agents[id].device, command: commandOf[v], notSent: true})
		},
		CutObserver:  func() { f.gw.cut(true) },
		MendObserver: func() { f.gw.cut(false) },
		Started:      f.started,
		RunningCopies: func(id autoheal.WorkloadID) int {
			n := 0
			for nid, a := range f.agents {
				mu.Lock()
				dead := killed[nid]
				mu.Unlock()
				for _, ref := range a.live() {
					if ref.id == id && !dead {
						n++
					}
				}
			}
			return n
		},
	}
	for i := range len(f.agents) {
		h.Nodes = append(h.Nodes, autoheal.NodeID(fmt.Sprintf("n%d", i+1)))
	}
	return h
}

func (f *fleet) started(id autoheal.WorkloadID) map[int]int {
	out := map[int]int{}
	for _, a := range f.agents {
		a.mu.Lock()
		for ref, n := range a.starts {
			if ref.id == id {
				out[ref.n] += n
			}
		}
		a.mu.Unlock()
	}
	return out
}

func TestConformance(t *testing.T) {
	drivertest.Run(t, func(t *testing.T) drivertest.Harness { return openFleet(t, 3, 2).harness() }, drivertest.InBubble())
}
