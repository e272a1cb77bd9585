package heal

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/clock"
	"autoheal.dev/autoheal/internal/policy"
)

// site is a core that has seen a whole cluster, and what it took: nodes of eight GPUs in racks of 32 and ten zones, each
// with its workloads, of which six hold a GPU. Every other workload may run once only. The site keeps nothing
// of the cluster itself, so that what the heap holds is the core's.
type site struct {
	core           *Core
	now            time.Time
	nodes, perNode int
	rnd            *rand.Rand
	busy           int // changes happen on so many nodes

	took    []time.Duration // of the Steps since the last reset
	cpu     []time.Duration // of the processor, in them: what counts on a machine that others use, too
	records int
	wake    time.Time
	asked   []autoheal.Action // and not done yet
	starts  int
}

func newSite(b testing.TB, nodes, perNode int, change func(*policy.Policy)) *site {
	pol := actPolicy(b)
	if change != nil {
		change(pol)
	}
	s := &site{now: time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC), nodes: nodes, perNode: perNode, rnd: rand.New(rand.NewPCG(1, 2)), busy: nodes}
	s.core = NewCore(Life{Epoch: 1, Version: "bench", ConfigHash: "c", BootID: "b", Cluster: "default"}, pol)
	var in Input
	send := func(e autoheal.Event, last bool) {
		if in.Events = append(in.Events, e); len(in.Events) == batchMost || last {
			s.step(in)
			in = Input{}
		}
	}
	for n := range nodes {
		send(s.nodeEvent(s.node(n)), false)
	}
	for n := range nodes * perNode {
		send(s.workloadEvent(s.workload(n)), false)
	}
	send(autoheal.Event{Kind: autoheal.EventSynced, At: s.now, SeenAt: s.now}, true)
	return s
}

// settled is a site some time after its start, about which the healer has no doubt any more.
func settled(b testing.TB, nodes, perNode int, change func(*policy.Policy)) *site {
	s := newSite(b, nodes, perNode, change)
	s.now = s.now.Add(time.Minute)
	s.step(Input{})
	return s
}

func nodeName(n int) autoheal.NodeID { return autoheal.NodeID(fmt.Sprintf("n%06d", n)) }

func (s *site) node(n int) *autoheal.Node {
	room := autoheal.Resources{CPUMilli: 128000, MemoryMB: 1 << 20, Pids: 100000, GPUs: 8}
	labels := map[string]string{autoheal.LabelRack: fmt.Sprintf("r%d", n/32), autoheal.LabelZone: fmt.Sprintf("z%d", n*10/s.nodes)}
	x := &autoheal.Node{
		ID: nodeName(n), BootID: "b", Source: "sim", Link: autoheal.LinkUp, LinkSince: s.now, LastSeen: s.now, Ready: true, Schedulable: true,
		Labels: labels, Domains: autoheal.NodeDomains(labels), Capacity: room, Allocatable: room, Caps: autoheal.Verbs(), SelfStop: true,
	}
	for g := range 8 {
		x.GPUs = append(x.GPUs, autoheal.GPU{UUID: gpuName(x.ID, g), Index: g, Model: "H100", MemoryMB: 81920, Health: autoheal.HealthOK})
	}
	return x
}

func gpuName(n autoheal.NodeID, g int) autoheal.GPUID {
	return autoheal.GPUID(string(n) + "-" + strconv.Itoa(g))
}

func (s *site) workload(n int) *autoheal.Workload {
	node, k := n/s.perNode, n%s.perNode
	w := &autoheal.Workload{
		ID: workloadName(node, k), Image: autoheal.ImageHost, State: autoheal.Running, Desired: autoheal.DesiredRunning,
		Attempt: 1, Node: nodeName(node), Ready: true, Class: autoheal.Classes()[k%4], ClassRule: "label", AtMostOnce: k%2 == 0, Kind: autoheal.KindJob,
		Request: autoheal.Resources{CPUMilli: 1000, MemoryMB: int64(1000 + s.rnd.IntN(4000))}, OriginalMemoryMB: 1000, SubmittedAt: s.now, StartedAt: s.now,
	}
	if k < 6 {
		w.GPUs, w.Request.GPUs = []autoheal.GPUID{gpuName(w.Node, k)}, 1
	}
	return w
}

func workloadName(node, k int) autoheal.WorkloadID {
	return autoheal.WorkloadID(fmt.Sprintf("wl-%06d-%02d", node, k))
}

func (s *site) step(in Input) Ready {
	in.Now = s.now
	runtime.LockOSThread()
	began, cpu := clock.Real{}.Now(), threadTime()
	r := s.core.Step(in)
	s.took, s.cpu = append(s.took, clock.Real{}.Now().Sub(began)), append(s.cpu, threadTime()-cpu)
	runtime.UnlockOSThread()
	s.records += len(r.Records)
	s.wake = r.WakeAt
	s.asked = append(s.asked, r.Actions...)
	return r
}

// reset forgets what the Steps so far have taken.
func (s *site) reset() { s.took, s.cpu, s.records = s.took[:0], s.cpu[:0], 0 }

// threadTime is how long the present thread has run on a processor.
func threadTime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		panic(err)
	}
	return time.Duration(t.Nano())
}

func sum(ds []time.Duration) (all time.Duration) {
	for _, d := range ds {
		all += d
	}
	return all
}

func (s *site) nodeEvent(n *autoheal.Node) autoheal.Event {
	return autoheal.Event{Kind: autoheal.EventNode, Node: n, At: s.now, SeenAt: s.now, Source: "sim"}
}

func (s *site) workloadEvent(w *autoheal.Workload) autoheal.Event {
	return autoheal.Event{Kind: autoheal.EventWorkload, Workload: w, At: s.now, SeenAt: s.now, Source: "sim"}
}

// anyNode and anyWorkload return a copy of what the core knows, to be changed.
func (s *site) anyNode() *autoheal.Node {
	n := *s.core.v.nodes[nodeName(s.rnd.IntN(s.busy))]
	return &n
}

func (s *site) anyWorkload() *autoheal.Workload {
	w := *s.core.v.cur[workloadName(s.rnd.IntN(s.busy), s.rnd.IntN(s.perNode))]
	return &w
}

// memory returns what the heap holds after a collection, and the private memory of the process.
func memory() (heap, private float64) {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		if kb, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			n, _ := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(kb), " kB"))
			private = float64(n) / 1024
		}
	}
	return float64(m.HeapInuse) / (1 << 20), private
}
