// Package cgroup owns the control groups of a node's workloads: which version the kernel offers, the folders, limits,
// out-of-memory counters, killing a whole group and removing it.
//
// internal/agent prepares the parent of a node and internal/agent/shim makes, kills and removes one group per attempt;
// nobody else imports it. It reads and writes the kernel's files directly: the shim, which is linked with it, must stay
// a few MiB small, and of a general library it would use mkdir, write and rmdir. It never starts a goroutine, never
// waits without a bound, and never touches a group outside the prefix it was given.
package cgroup
