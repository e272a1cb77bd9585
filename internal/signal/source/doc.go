// Package source reads logs as they lie around: plain or gzip; dmesg in every time format, /dev/kmsg, syslog, container
// runtimes, and the journal's JSON and export forms. It owns finding out which it is, cutting lines, and counting what
// could not be read; what a line means is internal/signal's business.
//
// The agent and the command line may import it. It never opens a file, waits for more than its reader gives, or starts a
// goroutine.
package source
