package sim

import (
	"fmt"
	"slices"
	"time"

	"autoheal.dev/autoheal"
)

// trouble is what is wrong with a GPU, or with the driver of all GPUs of a node.
type trouble struct {
	since  time.Time
	action autoheal.Advice // what its driver asks for
	needs  int             // so many resets, or boots, mend it; more than the healer may try = a person has to
	why    string
}

// Names of the conditions by which a node says what is wrong with its GPUs.
const (
	condHung = "driver_hung"
	condGPU  = "gpu:"
)

// sick is the health of a machine's GPUs as it really is, and what the machine has told of it.
type sick struct {
	gpus  map[autoheal.GPUID]*trouble
	hung  *trouble
	jobs  []autoheal.Job
	says  []autoheal.Signal // by the kernel of this boot
	told  int               // how many of them
	news  bool              // something is not told yet
	shown shown
}

// shown is what the driver knows of it.
type shown struct {
	gpus       []autoheal.GPU
	conditions map[string]string
	jobs       []autoheal.Job
}

// sicken lets something go wrong with a GPU; the kernel says so, and its driver.
func (m *machine) sicken(g int, t trouble, code string) {
	id := m.gpus[g].UUID
	if m.sick.gpus == nil {
		m.sick.gpus = map[autoheal.GPUID]*trouble{}
	}
	if m.sick.gpus[id] != nil || !m.on {
		return
	}
	t.since = m.w.q.now
	m.sick.gpus[id] = &t
	m.gpus[g].Health, m.gpus[g].Action = autoheal.HealthFailed, t.action
	m.w.note("%s: GPU %d fails: %s asks for %s, %d times", m.id, g, code, t.action, t.needs)
	m.kernelSays(g, code, autoheal.FailureGPU, t.action)
}

// kernelSays puts a line about a GPU into the kernel's log.
func (m *machine) kernelSays(g int, code string, failure autoheal.Failure, action autoheal.Advice) {
	m.sick.says = append(m.sick.says, autoheal.Signal{
		Rule: code, Source: "kmsg", Failure: failure, Action: action, Conclusive: true, Count: 1, TTL: time.Hour, At: m.w.wall(),
		Subject: autoheal.Ref{Kind: autoheal.RefGPU, ID: string(m.gpus[g].UUID), Generation: bootName(m.id, m.boot)},
		Also:    []autoheal.Ref{autoheal.NodeRef(m.id)}, Excerpt: fmt.Sprintf("NVRM: Xid (PCI:0000:%02x:00): %s", 0x10+g, code),
	})
	m.report()
}

// report has the agent tell what is new of its GPUs and jobs.
func (m *machine) report() {
	m.sick.news = true
	if m.healthy() {
		m.loud()
		m.answer()
	}
}

// hear takes over what a node tells of its GPUs: the whole state, and the lines of its kernel's log that are new, or all of
// them when everything is listed.
func (d *driver) hear(m *machine, all bool) {
	x := &m.sick
	if all {
		x.told = 0
	}
	changed := x.news
	x.news = false
	x.shown = shown{gpus: slices.Clone(m.gpus), jobs: slices.Clone(x.jobs), conditions: m.gpuConditions()}
	for ; x.told < len(x.says); x.told++ {
		s := x.says[x.told]
		s.SeenAt = d.w.wall()
		d.emit(autoheal.Event{Kind: autoheal.EventSignal, Signal: &s, At: s.At, Source: string(m.id)})
	}
	if changed {
		d.tellNode(m)
	}
}

func (m *machine) gpuConditions() map[string]string {
	out := map[string]string{}
	if t := m.sick.hung; t != nil {
		out[condHung] = t.why
	}
	for id, t := range m.sick.gpus {
		out[condGPU+string(id)] = t.why
	}
	return out
}

// mend ends what is wrong with a machine's GPUs: one of them, or with "" all that a boot may mend.
func (m *machine) mend(id autoheal.GPUID) {
	delete(m.sick.gpus, id)
	for g := range m.gpus {
		if m.gpus[g].UUID == id {
			m.gpus[g].Health, m.gpus[g].Action = autoheal.HealthOK, ""
		}
	}
}

// bootGPUs is what a boot does to the GPUs: it is one try to mend each, and the log begins anew.
func (m *machine) bootGPUs() {
	x := &m.sick
	x.says, x.told, x.news = nil, 0, true
	for n := range x.jobs {
		if x.jobs[n].State == autoheal.JobRunning {
			x.jobs[n].State, x.jobs[n].Detail, x.jobs[n].EndedAt = autoheal.JobFailed, "the node was booted", m.w.wall()
		}
	}
	if x.hung = x.hung.tried(); x.hung != nil {
		x.hung.since = m.w.q.now
	}
	for _, id := range sortedKeys(x.gpus) {
		if x.gpus[id].tried() == nil {
			m.mend(id)
		}
	}
}

// tried is what is left of a trouble after one more try to mend it.
func (t *trouble) tried() *trouble {
	if t == nil {
		return nil
	}
	if t.needs--; t.needs <= 0 {
		return nil
	}
	return t
}

// users are the attempts that really run on a GPU; with "" on the whole machine.
func (m *machine) users(id autoheal.GPUID) []ref {
	var out []ref
	for _, r := range m.refs() {
		p := m.procs[r]
		a := p.w.attempts[p.n]
		if p.live() && (id == "" || a != nil && slices.Contains(a.gpus, id)) {
			out = append(out, r)
		}
	}
	return out
}

// gpuAt finds the GPU of a UUID.
func (m *machine) gpuAt(id autoheal.GPUID) int {
	return slices.IndexFunc(m.gpus, func(g autoheal.GPU) bool { return g.UUID == id })
}
