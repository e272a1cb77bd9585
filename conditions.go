package autoheal

import (
	"slices"
	"strings"
)

// Conditions with which a node says that it cannot be relied on (behaviour B7). While one holds, nothing new is placed
// there: it leaves no mark and ends by itself.
const (
	CondDiskFull = "disk_full"
	CondReadOnly = "disk_read_only"
	CondMemory   = "memory_pressure"
	CondPids     = "pid_pressure"
	CondFault    = "fault:" // + the code of the rule: what the kernel reported, for as long as it counts
)

// FromKernel reports whether a condition tells of what the kernel reported of the machine.
func FromKernel(condition string) bool { return strings.HasPrefix(condition, CondFault) }

// IsPressure reports whether a condition means that the node is short of something: it counts after a while only.
func IsPressure(condition string) bool { return condition == CondMemory || condition == CondPids }

// Faults returns the names of the conditions for which the node takes no work, in order.
func (n *Node) Faults() []string {
	var out []string
	for name := range n.Conditions {
		if name == CondDiskFull || name == CondReadOnly || IsPressure(name) || FromKernel(name) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}
