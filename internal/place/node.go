package place

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"autoheal.dev/autoheal"
)

// Tiers of GPUs: a request is served from the first tier in which it fits.
const (
	tierOK       = iota // health ok
	tierDegraded        // ok or degraded
	tierUnknown         // ok, degraded, or never heard of
	tiers
)

// unusable is the rank of GPUs that are never assigned: failed, quarantined, or unknown after having been bad.
const unusable = tiers

// gpuState is one GPU of a node. users counts the attempts that hold it: more than one only when that was observed.
type gpuState struct {
	id     autoheal.GPUID
	model  string // lower case
	memory int64
	rank   int
	users  int
}

// nodeState is one node with what is free on it. Between settle and lift its counts do not change, because the sets are
// ordered by them.
type nodeState struct {
	id          autoheal.NodeID
	known       bool       // else something is held of a node that nobody told of yet
	number      uint32     // in the order of IDs
	slot        uint32     // where entries find it
	held        []*holding // what attempts hold here, in no order
	bootID      string
	refusal     string // why nothing is placed here, "" = usable
	labels      map[string]string
	allocatable autoheal.Resources
	gpus        []gpuState // by index
	suspects    map[autoheal.GPUID]bool
	signature   string // of the models, "" without GPUs

	free     autoheal.Resources // CPU, memory and pids
	freeGPUs [tiers]int         // usable, unheld, cumulative by tier
	unstated int                // attempts that did not say how much memory they need
	class    *class             // that it was last in, with GPUs
}

// describe takes over what does not depend on attempts.
func (s *nodeState) describe(n *autoheal.Node) {
	if s.bootID != n.BootID {
		clear(s.suspects) // what was known of a part does not hold for it after a boot
		s.bootID = n.BootID
	}
	s.refusal = refusalOf(n)
	s.labels = maps.Clone(n.Labels)
	s.allocatable = n.Allocatable
	gpus := slices.Clone(n.GPUs)
	slices.SortFunc(gpus, func(a, b autoheal.GPU) int {
		if a.Index != b.Index {
			return a.Index - b.Index
		}
		return strings.Compare(string(a.UUID), string(b.UUID))
	})
	s.gpus = make([]gpuState, 0, len(gpus))
	kinds := map[string]bool{}
	for i := range gpus {
		g := gpuState{id: gpus[i].UUID, model: strings.ToLower(gpus[i].Model), memory: gpus[i].MemoryMB}
		g.rank = s.rankOf(&gpus[i])
		s.gpus = append(s.gpus, g)
		kinds[g.model+"/"+strconv.FormatInt(g.memory, 10)] = true
	}
	s.signature = strings.Join(slices.Sorted(maps.Keys(kinds)), ",")
}

// describedAs reports whether describe found the same as for o.
func (s *nodeState) describedAs(o *nodeState) bool {
	sameGPU := func(a, b gpuState) bool { a.users, b.users = 0, 0; return a == b }
	return s.refusal == o.refusal && s.allocatable == o.allocatable && s.signature == o.signature && maps.Equal(s.labels, o.labels) &&
		slices.EqualFunc(s.gpus, o.gpus, sameGPU)
}

func refusalOf(n *autoheal.Node) string {
	switch {
	case n.Link == autoheal.LinkSilent:
		return "is silent"
	case n.Link != autoheal.LinkUp:
		return "has not been reached"
	case n.Draining:
		return "is being drained"
	case !n.Schedulable && len(n.Marks) > 0:
		return "is cordoned"
	case !n.Schedulable:
		return "takes no new work"
	case !n.Ready:
		return "is not ready"
	}
	return ""
}

// rankOf returns the tier from which on the GPU may be used. Unknown health is neither ok nor failed, but after it was
// seen bad, not hearing of a GPU any more is no reason to trust it again.
func (s *nodeState) rankOf(g *autoheal.GPU) int {
	switch g.Health {
	case autoheal.HealthOK:
		delete(s.suspects, g.UUID)
	case autoheal.HealthDegraded, autoheal.HealthFailed:
		if s.suspects == nil {
			s.suspects = map[autoheal.GPUID]bool{}
		}
		s.suspects[g.UUID] = true
	}
	switch {
	case g.Quarantined != nil || g.Health == autoheal.HealthFailed:
		return unusable
	case g.Health == autoheal.HealthOK:
		return tierOK
	case g.Health == autoheal.HealthDegraded:
		return tierDegraded
	case s.suspects[g.UUID]:
		return unusable
	}
	return tierUnknown
}

// recount computes what is free from nothing.
func (s *nodeState) recount() {
	a := s.allocatable
	s.free = autoheal.Resources{CPUMilli: a.CPUMilli, MemoryMB: a.MemoryMB, Pids: a.Pids}
	s.unstated, s.freeGPUs, s.class = 0, [tiers]int{}, nil
	for i := range s.gpus {
		s.countGPU(&s.gpus[i], 1)
	}
	for _, h := range s.held {
		s.take(h, 1)
	}
}

// take subtracts what h holds (sign 1) or gives it back (sign -1).
func (s *nodeState) take(h *holding, sign int) {
	n := int64(sign)
	s.free.CPUMilli -= n * h.need.CPUMilli
	s.free.MemoryMB -= n * h.need.MemoryMB
	s.free.Pids -= n * h.need.Pids
	if h.need.MemoryMB == 0 {
		s.unstated += sign
	}
	for _, id := range h.gpus {
		if g := s.gpu(id); g != nil {
			if g.users == 0 {
				s.countGPU(g, -1)
			}
			g.users += sign
			if g.users == 0 {
				s.countGPU(g, 1)
			}
		}
	}
}

func (s *nodeState) countGPU(g *gpuState, n int) {
	for t := g.rank; t < tiers; t++ {
		s.freeGPUs[t] += n
	}
}

func (s *nodeState) gpu(id autoheal.GPUID) *gpuState {
	for i := range s.gpus {
		if s.gpus[i].id == id {
			return &s.gpus[i]
		}
	}
	return nil
}

// Attempts that do not say how much memory they need count as nominalMB each, up to nominalCap, when nodes are put in
// order: else they would all go to one node. They hold nothing when it comes to what fits.
const (
	nominalMB  = 256
	nominalCap = 4096
)

// room is what nodes are ordered by for work without GPUs.
func (s *nodeState) room() int64 {
	return s.free.MemoryMB - min(int64(s.unstated)*nominalMB, nominalCap)
}

func (s *nodeState) selected(sel map[string]string) bool {
	for k, v := range sel {
		if got, ok := s.labels[k]; !ok || got != v {
			return false
		}
	}
	return true
}

func (g *gpuState) matches(r *Request) bool {
	return g.memory >= r.Need.GPUMemoryMB &&
		(r.Need.GPUModel == "" || strings.Contains(g.model, strings.ToLower(r.Need.GPUModel)))
}

// allowed reports whether r may use the node at all, whatever is free on it.
func (s *nodeState) allowed(r *Request) bool {
	return s.refusal == "" && s.selected(r.Selector) && !slices.Contains(r.Avoid, s.id)
}

// couldHost reports whether r would fit if the node were empty.
func (s *nodeState) couldHost(r *Request) bool {
	if !s.allowed(r) || !covers(s.allocatable, r.Need) {
		return false
	}
	n := 0
	for i := range s.gpus {
		if s.gpus[i].rank < unusable && s.gpus[i].matches(r) && !slices.Contains(r.AvoidGPUs, s.gpus[i].id) {
			n++
		}
	}
	return n >= r.Need.GPUs
}

// covers reports whether have is enough CPU, memory and pids. What is not asked for is not checked: a node that does
// not say how many pids it has can still run what does not ask for any.
func covers(have, need autoheal.Resources) bool {
	return (need.CPUMilli == 0 || need.CPUMilli <= have.CPUMilli) &&
		(need.MemoryMB == 0 || need.MemoryMB <= have.MemoryMB) &&
		(need.Pids == 0 || need.Pids <= have.Pids)
}

// pick returns the GPUs that r would get here from GPUs up to tier, and whether all of r fits. Released holdings count as
// free.
func (s *nodeState) pick(r *Request, tier int, released []*holding) ([]autoheal.GPUID, bool) {
	free := s.free
	for _, h := range released {
		free.CPUMilli += h.need.CPUMilli
		free.MemoryMB += h.need.MemoryMB
		free.Pids += h.need.Pids
	}
	if !covers(free, r.Need) {
		return nil, false
	}
	if r.Need.GPUs == 0 {
		return nil, true
	}
	chosen := make([]int, 0, r.Need.GPUs)
	for rank := tierOK; rank <= tier; rank++ {
		for i := range s.gpus {
			g := &s.gpus[i]
			if len(chosen) < r.Need.GPUs && g.rank == rank && s.isFree(g, released) && g.matches(r) &&
				!slices.Contains(r.AvoidGPUs, g.id) {
				chosen = append(chosen, i)
			}
		}
	}
	if len(chosen) < r.Need.GPUs {
		return nil, false
	}
	slices.Sort(chosen)
	out := make([]autoheal.GPUID, len(chosen))
	for i, at := range chosen {
		out[i] = s.gpus[at].id
	}
	return out, true
}

func (s *nodeState) isFree(g *gpuState, released []*holding) bool {
	users := g.users
	for _, h := range released {
		if users > 0 && slices.Contains(h.gpus, g.id) {
			users--
		}
	}
	return users == 0
}

// reserved returns what pending attempts of id reserve here, which is free for id itself.
func (x *Index) reserved(id autoheal.WorkloadID, s *nodeState) []*holding {
	var out []*holding
	for h := x.byID[id]; h != nil; h = h.next {
		if h.reservation && h.node == s {
			out = append(out, h)
		}
	}
	return out
}
