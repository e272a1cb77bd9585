package agent

import (
	"os"
	"path/filepath"
)

// healerGone reports whether it is proven that no healer is there: no process has its lock file open, which a healer does
// for as long as it lives. Trying the lock instead could keep a healer that is just starting from taking it, and what is
// written in the file outlives whoever wrote it. Without a lock file nothing is proven.
func healerGone(lock string) bool {
	file, err := os.Stat(lock)
	if err != nil {
		return false
	}
	processes, err := filepath.Glob("/proc/[0-9]*/fd")
	if err != nil {
		return false // only a malformed pattern is an error
	}
	for _, p := range processes {
		fds, err := os.ReadDir(p)
		if err != nil {
			continue // it ended, or is another user's: the file can be opened by its owner only
		}
		for _, fd := range fds {
			if open, err := os.Stat(filepath.Join(p, fd.Name())); err == nil && os.SameFile(file, open) {
				return false
			}
		}
	}
	return true
}
