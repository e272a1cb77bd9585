// Package program owns the running of programs that a site configures: an argument vector and never a shell, JSON on
// standard input, the end of what it writes kept, and a time after which it is killed with all that it started.
//
// The node agent and the drivers import it. It decides nothing, hands no environment of ours on, and never waits for a
// process that the kernel does not let go.
package program
