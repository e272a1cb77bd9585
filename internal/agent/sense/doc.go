// Package sense listens to one machine's logs: it follows the kernel's log from where it was left and keeps the book of
// what each source says, so that a storm of lines becomes a few signals with counts.
//
// Only internal/agent imports it. It owns the file that remembers how far the kernel's log was read. What a line means is
// the business of internal/signal; whom a signal concerns, and telling it, is the agent's. It never decides, never
// starts a goroutine and never waits: whoever calls it does so as often as news are wanted.
package sense
