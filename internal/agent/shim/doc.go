// Package shim owns one workload attempt on a node: it starts it inside its control group, reads its output, reaps its
// descendants, enforces its deadline and writes down how it ended.
//
// One shim process runs per attempt, in its own session, and outlives the agent that started it (behaviour C2). The
// agent talks to it over a socket in the attempt's folder, to which only the same user may connect. internal/agent
// imports this package for the files and the client; cmd/autoheal for Main. A shim never dials anything but a container
// engine, never decides to start anything again, and extends its deadline only to a later one.
//
// # Files of an attempt
//
//	spec.json   what to run; written by the agent before the shim exists, locked (flock) for as long as a shim lives
//	shim.sock   the socket
//	lease       the present deadline, for people: nanoseconds of CLOCK_BOOTTIME
//	log.0 … 3   output, newest first
//	work        the working directory
//	exit.json   how it ended: durable before anybody is told
package shim
