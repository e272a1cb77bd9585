package claw

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/driver/drivertest"
	"autoheal.dev/autoheal/internal/nodeproto"
	"autoheal.dev/autoheal/internal/openclaw"
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
	f.db = openRegistry(t, f.dir, store.Options{Relaxed: true})
	f.restart(t, 7)
	return f
}

// inFleet runs a test in virtual time on a fleet that has come to rest.
func inFleet(t *testing.T, nodes, gpus int, test func(t *testing.T, f *fleet)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := openFleet(t, nodes, gpus)
		settle(time.Second)
		test(t, f)
	})
}

// restart makes a new driver life on the same registry.
func (f *fleet) restart(t *testing.T, epoch uint64) {
	t.Helper()
	if f.Driver != nil {
		if err := f.Driver.Stop(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	f.Driver = startDriver(t, driverOptions(f.gw, f.db, epoch))
}

// openRegistry opens a registry below dir, which is closed with the test.
func openRegistry(t testing.TB, dir string, o store.Options) *store.DB {
	t.Helper()
	db, err := store.Open(t.Context(), filepath.Join(dir, "data", "state.db"), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// driverOptions are those of every test: all nodes are admitted, and stop themselves after a minute.
func driverOptions(op openclaw.Operator, db *store.DB, epoch uint64) Options {
	return Options{
		Operator: op, DB: db, Epoch: epoch, SelfStop: time.Minute, Classify: classify,
		Approve:  func(string, []string) bool { return true },
		Programs: func() Programs { return somePrograms },
	}
}

// somePrograms make every repair possible and do nothing.
var somePrograms = Programs{
	Test:  nodeproto.Program{Argv: []string{"/usr/bin/gpu-test", "-r", "2"}, TimeoutMS: 300_000},
	Fence: []string{"/bin/true"}, Reboot: []string{"/bin/true"}, RebootTime: time.Minute,
}

// startDriver starts a life, which ends with the test at the latest.
func startDriver(t testing.TB, o Options) *Driver {
	t.Helper()
	d := New(o)
	if err := d.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return d
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
