// Package place owns the question where a workload can run: an index of free capacity and the searches over it.
//
// The engine plans with it and the fleet driver places with it, so that a plan and its execution agree. It is pure: it
// may import the root package only, is told of nodes and attempts, and never reads a clock, does I/O or changes what it
// is given. An Index is not safe for concurrent use; its owner serialises.
//
// The cost of an update follows the change and hardly the number of nodes: an attempt that comes or goes moves its node in
// two sorted lists, whose entries carry what they are sorted by. One holds the nodes with the same models and as many free
// GPUs in order of free memory, which is where Fit looks for the tightest place; the other holds the nodes in the order in
// which work without GPUs is spread. So Fit looks at nodes that are likely to do and not at all of them.
package place
