// Package app wires the parts of autoheal together: straight-line set-up, and named stops in reverse order.
//
// Only cmd/autoheal imports it. It is where files are opened, the environment is read, processes are started and clocks
// are chosen; it decides nothing about a cluster.
package app
