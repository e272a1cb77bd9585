package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/policy"
)

// world is everything outside the healer, as it really is.
type world struct {
	q        *queue
	rng      *rand.Rand
	pol      *policy.Policy
	machines []*machine
	byID     map[autoheal.NodeID]*machine
	fleet    *fleet
	drv      *driver
	watch    watcher
	embedded bool                    // the gateway lives in the healer's process; a closed port renews the lease
	trust    bool                    // nodes stop themselves
	allGPUs  map[autoheal.GPUID]bool // that ever were
	noReboot bool                    // no site command reboots a node
	gone     bool                    // the healer's process is gone
	offset   time.Duration
	sabotage string
	losses   []*loss
	wire     wire
	notes    []string
	noting   bool
}

// watcher is told of what really happens; the checkers are behind it.
type watcher interface {
	copies(w *workload)
	begun(m *machine, p *proc)
	selfStopped(m *machine, p *proc)
	acted(a autoheal.Action)
	stopping(a autoheal.Action, w *workload, r ref)
	unmarked(a autoheal.Action, m *machine, before, after []autoheal.Mark)
}

// nobody watches: the conformance suite judges by what it observes.
type nobody struct{}

func (nobody) copies(*workload)                                                     {}
func (nobody) begun(*machine, *proc)                                                {}
func (nobody) selfStopped(*machine, *proc)                                          {}
func (nobody) acted(autoheal.Action)                                                {}
func (nobody) stopping(autoheal.Action, *workload, ref)                             {}
func (nobody) unmarked(autoheal.Action, *machine, []autoheal.Mark, []autoheal.Mark) {}

// What of a request or its answer is lost.
const (
	loseRequest = "request"
	loseAnswer  = "answer"
)

// loss is one message of the conformance suite that will be lost.
type loss struct {
	node autoheal.NodeID
	verb autoheal.Verb
	what string
}

func newWorld(seed uint64, pol *policy.Policy, nodes, gpus int) *world {
	w := &world{
		q: newQueue(), rng: rand.New(rand.NewPCG(seed, 1)), pol: pol, byID: map[autoheal.NodeID]*machine{}, watch: nobody{}, allGPUs: map[autoheal.GPUID]bool{},
		embedded: true, trust: true, wire: newWire(),
	}
	for n := range nodes {
		w.addMachine(seed, n, gpus)
	}
	w.fleet = newFleet(w)
	w.drv = newDriver(w)
	return w
}

// perRack and perZone lay the nodes out.
const (
	perRack = 4
	perZone = 8
)

func (w *world) addMachine(seed uint64, n, gpus int) {
	m := &machine{
		w: w, id: autoheal.NodeID(fmt.Sprintf("n%d", n+1)), rng: rand.New(rand.NewPCG(seed, uint64(n)+2)), on: true, boot: 1, life: 1,
		memory: 64 << 10, cpu: 32000, procs: map[ref]*proc{}, boxed: map[ref]bool{}, holes: map[string]time.Time{}, faults: map[string]int{},
		labels: map[string]string{
			autoheal.LabelRack: fmt.Sprintf("r%d", n/perRack+1), autoheal.LabelZone: fmt.Sprintf("z%d", n/perZone+1),
			autoheal.LabelFabric: fmt.Sprintf("f%d", n%2+1),
		},
	}
	m.drift = 0.99 + 0.02*m.rng.Float64()
	m.domains = autoheal.NodeDomains(m.labels)
	for g := range gpus {
		m.gpus = append(m.gpus, autoheal.GPU{
			UUID: autoheal.GPUID(fmt.Sprintf("GPU-%s-%d", m.id, g)), Index: g, Model: "SIM-80G", Vendor: "nvidia", MemoryMB: 80 << 10,
			Health: autoheal.HealthOK, Simulated: true,
		})
	}
	m.sick.shown.gpus = slices.Clone(m.gpus)
	for _, g := range m.gpus {
		w.allGPUs[g.UUID] = true
	}
	w.machines = append(w.machines, m)
	w.byID[m.id] = m
}

// wall is the time that the present life of the healer shows.
func (w *world) wall() time.Time { return w.wallAt(w.q.now) }

func (w *world) wallAt(t time.Time) time.Time { return t.Add(w.offset) }

// selfStop is how long a node's at-most-once workloads outlive the last acknowledged contact; 0 = they do not stop.
func (w *world) selfStop() time.Duration {
	if !w.trust {
		return 0
	}
	if w.sabotaged("self-stop-too-long") {
		return 4 * w.pol.Fence.SelfStop
	}
	return w.pol.Fence.SelfStop
}

// gatewayGone reports whether agents are told that nobody listens.
func (w *world) gatewayGone() bool { return w.gone && w.embedded }

func (w *world) sabotaged(what string) bool { return w.sabotage == what }

// note adds a line to the transcript.
func (w *world) note(format string, args ...any) {
	if w.noting {
		w.notes = append(w.notes, fmt.Sprintf("%-14s %s", "+"+w.q.now.Sub(epochTime).Round(time.Millisecond).String(), fmt.Sprintf(format, args...)))
	}
}

// lose reports whether such a message is to be lost now, once.
func (w *world) lose(node autoheal.NodeID, verb autoheal.Verb, what string) bool {
	for i, l := range w.losses {
		if l.node == node && l.verb == verb && l.what == what {
			w.losses = slices.Delete(w.losses, i, i+1)
			return true
		}
	}
	return false
}

// startTime is how long the program takes to come up.
func (w *workload) startTime(m *machine) time.Duration {
	if w.slow <= 0 {
		return 50 * time.Millisecond
	}
	return w.slow/2 + time.Duration(m.rng.Int64N(int64(w.slow)))
}

// live lets a program that has come up behave as it does.
func (w *world) live(m *machine, p *proc) {
	x := p.w
	crash := func(after time.Duration, exit autoheal.Exit) {
		w.q.after(after, func() {
			if m.on && !m.frozen {
				m.end(p, &exit)
			}
		})
	}
	a := x.attempts[p.n]
	switch {
	case x.needs > 0 && a != nil && a.memory < x.needs:
		crash(time.Duration(1+m.rng.IntN(20))*time.Second, autoheal.Exit{Code: 137, Signal: "SIGKILL", OOM: autoheal.OOMHostCgroup, Reason: autoheal.ExitCrashed})
	case x.crashes > 0:
		x.crashes--
		crash(time.Duration(1+m.rng.IntN(30))*time.Second, autoheal.Exit{Code: 1, Reason: autoheal.ExitCrashed})
	case w.q.now.Before(x.badUntil):
		crash(time.Duration(1+m.rng.IntN(3000))*time.Millisecond, autoheal.Exit{Code: 127, Reason: autoheal.ExitStartFailed, Detail: "the image has no entrypoint"})
	}
}
