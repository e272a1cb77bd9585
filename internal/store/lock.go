package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Clock tells the time; clock.Clock is one.
type Clock interface{ Now() time.Time }

// Lock is the right of one process to a data directory. The kernel takes it back when the process ends, however it
// ends; the file that remains says nothing.
type Lock struct {
	dir string

	mu    sync.Mutex // mu guards what follows
	file  *os.File   // nil once closed
	epoch uint64     // the last one given out
}

// holder is what the lock file says of its holder, for the message to the one who is refused.
type holder struct {
	PID     int       `json:"pid"`
	Started time.Time `json:"started"`
}

// LockDir takes the lock of the data directory dir, making the directory if only it is missing. The error is ErrInUse
// when another process has it.
func LockDir(dir string, clock Clock) (*Lock, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("lock data directory: %w", err)
	}
	if err := EnsureDir(dir); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, fileMode)
	if err != nil {
		return nil, fmt.Errorf("lock data directory %s: %w", dir, classify(err))
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = inUse(dir, f)
		} else {
			err = fmt.Errorf("lock data directory %s: %w: its file system must support flock", dir, err)
		}
		return nil, errors.Join(err, f.Close())
	}
	// What stands in the file only serves the message, so a full disk does not keep the lock from being taken.
	if b, err := json.Marshal(holder{PID: os.Getpid(), Started: clock.Now().UTC().Truncate(time.Second)}); err == nil {
		if f.Truncate(0) == nil {
			_, _ = f.WriteAt(append(b, '\n'), 0)
		}
	}
	return &Lock{dir: dir, file: f}, nil
}

func inUse(dir string, f *os.File) error {
	var h holder
	if err := json.NewDecoder(f).Decode(&h); err != nil || h.PID == 0 {
		return fmt.Errorf("%w: data directory %s is in use by another autoheal process", ErrInUse, dir)
	}
	return fmt.Errorf("%w: data directory %s is in use by autoheal process %d since %s", ErrInUse, dir, h.PID,
		h.Started.Format(time.RFC3339))
}

// NextEpoch counts up the number of this life of the healer and returns it, durable. It is larger than every number it
// returned before for this directory, and than every one in seen: what the journal or an agent has met, should the
// directory have been restored from an old copy.
func (l *Lock) NextEpoch(seen ...uint64) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return 0, fmt.Errorf("count epoch: %w", ErrClosed)
	}
	path := filepath.Join(l.dir, "epoch")
	last, err := readEpoch(path)
	if err != nil {
		return 0, err
	}
	next := max(last, l.epoch)
	for _, s := range seen {
		next = max(next, s)
	}
	next++
	if err := writeFileDurably(path, []byte(strconv.FormatUint(next, 10)+"\n")); err != nil {
		return 0, fmt.Errorf("count epoch: %w", classify(err))
	}
	l.epoch = next
	return next, nil
}

// readEpoch never takes a damaged counter for a new one: an epoch that goes back would let a dead healer's actions pass.
func readEpoch(path string) (uint64, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("count epoch: %w", err)
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("count epoch: %s is damaged (%q): write into it the highest epoch that autoheal journal show lists", path, clip(b))
	}
	return n, nil
}

func clip(b []byte) []byte { return b[:min(len(b), 32)] }

// Close gives the lock back. Closing twice is fine. The file stays: removing it would let two processes lock two files
// of the same name.
func (l *Lock) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	err := l.file.Close()
	l.file = nil
	if err != nil {
		return fmt.Errorf("unlock data directory %s: %w", l.dir, err)
	}
	return nil
}
