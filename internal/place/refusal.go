package place

import (
	"fmt"
	"slices"
	"strings"

	"autoheal.dev/autoheal"
)

const (
	maxDetail  = 400 // bytes of a Refusal's Detail
	maxMisses  = 4   // nodes named in it
	maxLookups = 64  // nodes looked at to name the nearest
)

// refuse explains why r has no place.
func (x *Index) refuse(r *Request) *Refusal {
	return refusal(fmt.Sprintf("needs %s: %s", describe(r), x.misses(r)))
}

func (x *Index) refuseTogether(rs []Request, failed int) *Refusal {
	if len(rs) == 1 {
		return x.refuse(&rs[0])
	}
	return refusal(fmt.Sprintf("needs %d placements at once, of which %s finds no place beside the others (needs %s): %s",
		len(rs), name(&rs[failed]), describe(&rs[failed]), x.misses(&rs[failed])))
}

func refusal(detail string) *Refusal {
	return &Refusal{Reason: autoheal.ReasonNoCapacity, Detail: clip(detail, maxDetail)}
}

func name(r *Request) string {
	if r.Workload == "" {
		return "one"
	}
	return string(r.Workload)
}

// describe says what r needs, such as "8 × H100, 64000 MB memory".
func describe(r *Request) string {
	var parts []string
	add := func(format string, args ...any) { parts = append(parts, fmt.Sprintf(format, args...)) }
	if n := r.Need.GPUs; n > 0 {
		model := r.Need.GPUModel
		if model == "" {
			model = "GPU"
		}
		add("%d × %s", n, model)
		if mb := r.Need.GPUMemoryMB; mb > 0 {
			add("%d MB each", mb)
		}
	}
	if mb := r.Need.MemoryMB; mb > 0 {
		add("%d MB memory", mb)
	}
	if c := r.Need.CPUMilli; c > 0 {
		add("%g CPU", float64(c)/1000)
	}
	if p := r.Need.Pids; p > 0 {
		add("%d pids", p)
	}
	if len(r.Selector) > 0 {
		add("labels %s", selectorText(r.Selector))
	}
	if len(parts) == 0 {
		return "a node"
	}
	return strings.Join(parts, ", ")
}

func selectorText(sel map[string]string) string {
	terms := make([]string, 0, len(sel))
	for k, v := range sel {
		terms = append(terms, k+"="+v)
	}
	slices.Sort(terms)
	return strings.Join(terms, ",")
}

// misses names the nearest nodes and what each lacks: first those with most to offer, then those where nothing may be
// placed now.
func (x *Index) misses(r *Request) string {
	if x.names.size == 0 {
		return "no node is known"
	}
	var said []string
	for _, s := range x.nearest(r) {
		if len(said) < maxMisses {
			said = append(said, fmt.Sprintf("%s %s", s.id, s.lacks(r)))
		}
	}
	if rest := x.names.size - len(said); rest > 0 {
		said = append(said, fmt.Sprintf("and %d more", rest))
	}
	return strings.Join(said, ", ")
}

// nearest returns up to maxLookups nodes. Where GPUs are asked for, a node that has enough but cannot be used now comes
// before one that has none.
func (x *Index) nearest(r *Request) []*nodeState {
	x.put()
	var out []*nodeState
	take := func(nodes *nodeSet) {
		for n := range x.all(nodes) {
			if len(out) >= maxLookups {
				return
			}
			out = append(out, n)
		}
	}
	if r.Need.GPUs == 0 {
		take(&x.plain)
		take(&x.fitted)
		take(&x.barred)
		return out
	}
	for _, key := range x.order {
		g := x.groups[key]
		for n := g.most; n >= 0 && g.matches(r); n-- {
			for _, c := range g.classes {
				if c.free[tierUnknown] == n {
					take(&c.nodes)
				}
			}
		}
	}
	slices.SortStableFunc(out, func(a, b *nodeState) int { return b.freeGPUs[tierUnknown] - a.freeGPUs[tierUnknown] })
	if len(out) > maxMisses-1 && x.barred.size > 0 {
		out = out[:maxMisses-1] // leave room to say that some cannot be used
	}
	take(&x.barred)
	take(&x.fitted)
	take(&x.plain)
	return unique(out)
}

func unique(nodes []*nodeState) []*nodeState {
	seen := map[*nodeState]bool{}
	return slices.DeleteFunc(nodes, func(s *nodeState) bool {
		was := seen[s]
		seen[s] = true
		return was
	})
}

// lacks says the first thing that keeps r off the node.
func (s *nodeState) lacks(r *Request) string {
	switch {
	case s.refusal != "":
		return s.refusal
	case slices.Contains(r.Avoid, s.id):
		return "is to be avoided"
	case !s.selected(r.Selector):
		return "has other labels"
	}
	free := 0
	for i := range s.gpus {
		g := &s.gpus[i]
		if g.rank < unusable && g.users == 0 && g.matches(r) && !slices.Contains(r.AvoidGPUs, g.id) {
			free++
		}
	}
	switch {
	case free < r.Need.GPUs:
		return fmt.Sprintf("has %d of %d GPUs free", free, len(s.gpus))
	case r.Need.MemoryMB > 0 && s.free.MemoryMB < r.Need.MemoryMB:
		return fmt.Sprintf("has %d of %d MB memory free", max(s.free.MemoryMB, 0), s.allocatable.MemoryMB)
	case r.Need.CPUMilli > 0 && s.free.CPUMilli < r.Need.CPUMilli:
		return fmt.Sprintf("has %g of %g CPU free", float64(max(s.free.CPUMilli, 0))/1000, float64(s.allocatable.CPUMilli)/1000)
	case r.Need.Pids > 0 && s.free.Pids < r.Need.Pids:
		return fmt.Sprintf("has %d of %d pids free", max(s.free.Pids, 0), s.allocatable.Pids)
	}
	return "has no room beside the others"
}

// clip shortens s to at most n bytes without cutting a character.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	const dots = "…"
	cut := n - len(dots)
	for cut > 0 && s[cut]&0xC0 == 0x80 {
		cut--
	}
	return s[:cut] + dots
}
