// Package e2e owns the tests of the product as a whole: the binary is built, run and broken as its users run and break it.
//
// It has tests only and is imported by nothing. They use this machine's processes, control groups, sockets and mount
// namespaces, and wait by subscription: for a change of the healer's stream, a line of output, the end of a process.
// It never reaches into a running part: what a test knows it has from the command line, the interface of the local door,
// or files that an operator could read and change too.
package e2e
