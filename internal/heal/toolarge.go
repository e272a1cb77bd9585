package heal

import (
	"fmt"
	"strings"

	"autoheal.dev/autoheal"
)

// tooLarge says that no node of the cluster could run a workload, were it empty: waiting for room is then in vain. It says
// nothing while no node is known.
func (c *Core) tooLarge(w *autoheal.Workload) string {
	var most autoheal.Resources
	nodes := 0
	for _, n := range c.v.nodes {
		if !selected(n, w.Selector) {
			continue
		}
		nodes++
		gpus := 0
		for _, g := range n.GPUs {
			if g.MemoryMB >= w.Request.GPUMemoryMB && (w.Request.GPUModel == "" || strings.Contains(strings.ToLower(g.Model), strings.ToLower(w.Request.GPUModel))) {
				gpus++
			}
		}
		if gpus >= w.Request.GPUs && n.Allocatable.MemoryMB >= w.Request.MemoryMB && n.Allocatable.CPUMilli >= w.Request.CPUMilli {
			return ""
		}
		most.GPUs, most.MemoryMB, most.CPUMilli = max(most.GPUs, gpus), max(most.MemoryMB, n.Allocatable.MemoryMB), max(most.CPUMilli, n.Allocatable.CPUMilli)
	}
	if nodes == 0 {
		return ""
	}
	var lacks []string
	lack := func(short bool, format string, args ...any) {
		if short {
			lacks = append(lacks, fmt.Sprintf(format, args...))
		}
	}
	lack(w.Request.GPUs > most.GPUs, "%d such GPUs, and no node has more than %d", w.Request.GPUs, most.GPUs)
	lack(w.Request.MemoryMB > most.MemoryMB, "%d MiB of memory, and no node has more than %d MiB", w.Request.MemoryMB, most.MemoryMB)
	lack(w.Request.CPUMilli > most.CPUMilli, "%.3g CPUs, and no node has more than %.3g", float64(w.Request.CPUMilli)/1000, float64(most.CPUMilli)/1000)
	if len(lacks) == 0 {
		lacks = append(lacks, "more together than any single node has")
	}
	return "it cannot start on this cluster, even on an empty node: it needs " + strings.Join(lacks, "; ")
}

// selected reports whether a node has all the labels that a workload asks for.
func selected(n *autoheal.Node, selector map[string]string) bool {
	for k, v := range selector {
		if n.Labels[k] != v {
			return false
		}
	}
	return true
}
