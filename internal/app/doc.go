// Package app wires the parts of autoheal together: straight-line set-up, and named stops in reverse order.
//
// It owns the order in which things are opened and closed, the agents' processes of an embedded cluster, and the files of
// the data directory that belong to no single part. Only cmd/autoheal imports it. It is where the environment is read and
// clocks are chosen; it never decides anything about a cluster.
package app
