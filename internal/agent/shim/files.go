package shim

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/agent/cgroup"
	"autoheal.dev/autoheal/internal/agent/container"
	"autoheal.dev/autoheal/internal/nodeproto"
)

// Names of an attempt's files.
const (
	SpecFile   = "spec.json"
	SocketFile = "shim.sock"
	LeaseFile  = "lease"
	ExitFile   = "exit.json"
	LogFile    = "log"
	WorkDir    = "work"
)

// Spec is what a shim is told, in spec.json. It holds the workload's secrets: the file is 0600.
type Spec struct {
	Start  nodeproto.StartRequest `json:"start"`
	Node   string                 `json:"node"`
	BootID string                 `json:"bootId"`

	Argv       []string    `json:"argv"`
	Env        []string    `json:"env"`
	Credential *Credential `json:"credential,omitempty"`

	Group  cgroup.Group  `json:"group"` // zero: measured, not limited
	Host   cgroup.Host   `json:"host"`
	Limits cgroup.Limits `json:"limits"`

	// Container, if set, is run instead of Argv.
	Container *container.Spec   `json:"container,omitempty"`
	Engine    *container.Engine `json:"engine,omitempty"`

	Lease        Lease `json:"lease"`
	MaxRuntimeMS int64 `json:"maxRuntimeMs,omitempty"`
	LogBytes     int64 `json:"logBytes,omitempty"` // of one log file; there are four
	LogRate      int64 `json:"logRate,omitempty"`  // bytes a second that are written at most

	// CreatedBoot and CreatedWall were read at the same moment (nanoseconds, milliseconds): they turn times of this boot
	// into dates after a reboot.
	CreatedBoot int64 `json:"createdBoot"`
	CreatedWall int64 `json:"createdWall"`
}

// Credential is another user to run the workload as.
type Credential struct {
	UID    uint32   `json:"uid"`
	GID    uint32   `json:"gid"`
	Groups []uint32 `json:"groups"`
}

// Lease is a deadline. While Enforced, the workload is dead by At (CLOCK_BOOTTIME, nanoseconds); it gets SIGTERM Grace
// earlier. SelfStop is the length that the healer gave, kept here so that it survives the agent.
type Lease struct {
	Enforced   bool  `json:"enforced"`
	At         int64 `json:"at"`
	GraceMS    int64 `json:"graceMs"`
	SelfStopMS int64 `json:"selfStopMs"`
}

// Expired reports whether the deadline is enforced and has passed at now.
func (l Lease) Expired(now time.Duration) bool { return l.Enforced && int64(now) >= l.At }

// TermAt is when SIGTERM is due, so that the grace lies inside the deadline.
func (l Lease) TermAt() time.Duration {
	return time.Duration(l.At) - time.Duration(l.GraceMS)*time.Millisecond
}

// Exited is how an attempt ended, in exit.json. Started is 0 if nothing ran.
type Exited struct {
	Exit        autoheal.Exit `json:"exit"`
	BootID      string        `json:"bootId"`
	Pid         int           `json:"pid,omitempty"`
	Started     int64         `json:"started,omitempty"` // CLOCK_BOOTTIME, nanoseconds
	Ended       int64         `json:"ended"`
	StartedWall int64         `json:"startedWall,omitempty"` // milliseconds since 1970
	EndedWall   int64         `json:"endedWall"`
	PeakMB      int64         `json:"peakMb,omitempty"`
	Measured    bool          `json:"measured,omitempty"` // PeakMB is a sample, not the kernel's count
}

// ReadSpec reads dir/spec.json.
func ReadSpec(dir string) (*Spec, error) { return readJSON[Spec](filepath.Join(dir, SpecFile)) }

// WriteSpec writes dir/spec.json durably.
func WriteSpec(dir string, s *Spec) error { return writeJSON(filepath.Join(dir, SpecFile), s) }

// ReadExited reads dir/exit.json; the error is fs.ErrNotExist while the attempt has not ended.
func ReadExited(dir string) (*Exited, error) { return readJSON[Exited](filepath.Join(dir, ExitFile)) }

// WriteExited writes dir/exit.json durably; on a full disk, into the place that was kept for it.
func WriteExited(dir string, e *Exited) error {
	err := writeJSON(filepath.Join(dir, ExitFile), e)
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return writeReserved(dir, e)
	}
	return err
}

// reserveFile keeps room for the end of an attempt: on a disk that is full nobody could prove otherwise that it ended.
const (
	reserveFile = "exit.reserve"
	reserveSize = 4 << 10
)

// Reserve makes room for the end of an attempt that is about to begin.
func Reserve(dir string) error {
	return WriteDurably(filepath.Join(dir, reserveFile), make([]byte, reserveSize))
}

// writeReserved turns the reserve into dir/exit.json.
func writeReserved(dir string, e *Exited) error {
	path := filepath.Join(dir, reserveFile)
	data, err := json.Marshal(e)
	if err != nil || len(data) > reserveSize {
		return fmt.Errorf("write %s: it takes %d bytes of %d: %w", path, len(data), reserveSize, errors.Join(err, unix.ENOSPC))
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = f.WriteAt(data, 0)
	if err == nil {
		err = f.Truncate(int64(len(data)))
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(path, filepath.Join(dir, ExitFile)); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return SyncDir(dir)
}

func readJSON[T any](path string) (*T, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	v := new(T)
	if err := json.Unmarshal(data, v); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return v, nil
}

func writeJSON(path string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return WriteDurably(path, data)
}

// WriteDurably puts data at path so that after a crash there is the old content or the new one, and after it returned
// nil, the new one. The file is readable by its owner only.
func WriteDurably(path string, data []byte) (err error) {
	tmp := path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		_ = os.Remove(tmp) // the write error is what matters
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return SyncDir(filepath.Dir(path))
}

// SyncDir makes the names in dir durable.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	return errors.Join(d.Sync(), d.Close())
}

// Lock takes the attempt's lock, which a shim holds for life: ErrLocked means that one lives. The lock belongs to the
// file returned and to every process that inherits it.
func Lock(dir string) (*os.File, error) {
	f, err := os.Open(filepath.Join(dir, SpecFile))
	if err != nil {
		return nil, fmt.Errorf("lock attempt: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close() // nothing was written to it
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, ErrLocked
		}
		return nil, fmt.Errorf("lock attempt: %w", err)
	}
	return f, nil
}

// ErrLocked is returned by Lock while a shim owns the attempt.
var ErrLocked = errors.New("a shim owns this attempt")
