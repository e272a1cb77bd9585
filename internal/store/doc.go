// Package store owns the files of the data directory that outlive a process: the SQLite databases with their single
// writer, the lock that lets one healer in, the epoch counter and the disk reserve.
//
// The journal, the fleet driver's registry and the wiring import it. It knows nothing of what is kept in the tables:
// every component brings its own migrations and its own statements. It never reads a clock by itself (times come from
// Options), never retries a write by its own decision once the outcome is known, and never opens a file that it cannot
// tell to be its own.
package store
