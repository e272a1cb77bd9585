package agent

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// healerGone reports whether it is proven that no healer is there: no process has its lock file open, which a healer does
// for as long as it lives. Trying the lock instead could keep a healer that is just starting from taking it, and what is
// written in the file outlives whoever wrote it. Without a lock file nothing is proven.
func healerGone(lock string) bool { return nobodyHas(lock, "/proc") }

func nobodyHas(lock, proc string) bool {
	file, err := os.Stat(lock)
	if err != nil {
		return false
	}
	processes, err := filepath.Glob(filepath.Join(proc, "[0-9]*"))
	if err != nil {
		return false // only a malformed pattern is an error
	}
	for _, p := range processes {
		fds, err := os.ReadDir(filepath.Join(p, "fd"))
		if err != nil && mayBeHealer(p) {
			return false
		}
		for _, fd := range fds {
			if open, err := os.Stat(filepath.Join(p, "fd", fd.Name())); err == nil && os.SameFile(file, open) {
				return false
			}
		}
	}
	return true
}

// mayBeHealer reports whether a process whose files cannot be looked at may be a healer: it bears the name of this program.
// Those of other users cannot be looked at, nor can one that was started with rights of its own, as a healer may be.
func mayBeHealer(process string) bool {
	name, err := os.ReadFile(filepath.Join(process, "comm"))
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ESRCH) // else it has ended
	}
	own, err := os.ReadFile("/proc/self/comm")
	return err != nil || bytes.Equal(name, own)
}
