// Package drill owns the drills: real faults on a real, throw-away cluster, and the judgement of what became of them.
//
// A drill runs the product as a user does: the cluster is a child process of the same binary, asked and told through the
// local door only, and broken by signals to real processes. cmd/autoheal may import it. It never reaches into the engine,
// a driver or the database, never signals a process that it cannot prove to belong to its own cluster, and leaves no
// process, control group or file behind, however it ends: a janitor process outlives it and cleans up.
package drill
