package sense

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"autoheal.dev/autoheal/internal/signal"
)

const (
	// maxAge is the age beyond which a line of the kernel's ring is history: the ring is replayed whenever it is opened.
	maxAge = 5 * time.Minute
	// maxRead is how much of a file is read at once, and maxReads how often in one look; the rest comes with the next.
	maxRead, maxReads = 1 << 20, 16
	// maxRecord is what the kernel writes at most as one record, maxRecords how many are read in one look: more than its
	// ring holds, so that only one that is filled while it is read is put off.
	maxRecord, maxRecords = 16 << 10, 1 << 20
)

// mark is how far the kernel's log was read.
type mark struct {
	Boot     string `json:"boot,omitempty"` // of the ring
	Sequence uint64 `json:"sequence,omitempty"`
	Inode    uint64 `json:"inode,omitempty"` // of a file
	Offset   int64  `json:"offset,omitempty"`
}

// Kernel reads what is new in a kernel's log: the ring of this boot, or a file that stands for it.
type Kernel struct {
	path, markPath string
	boot           string
	since          func() time.Duration // CLOCK_BOOTTIME
	mark, saved    mark
	replays        *signal.Replays
	ring           int // descriptor; -1 until opened
	began          bool
	// Lost counts records that were overwritten before they were read, and lines that were too long to look at.
	Lost int64
}

// OpenKernel continues after the mark in markPath. An empty path means /dev/kmsg; the error says why that cannot be read.
// A file that is not there yet is waited for.
func OpenKernel(path, markPath, boot string, since func() time.Duration) (*Kernel, error) {
	k := &Kernel{path: path, markPath: markPath, boot: boot, since: since, ring: -1}
	if data, err := os.ReadFile(markPath); err == nil {
		_ = json.Unmarshal(data, &k.mark) // a torn mark reads as none: what is too old is left out anyway
	}
	k.saved, k.began = k.mark, k.mark.Inode != 0
	k.replays = signal.NewReplays(maxAge, signal.Mark{Boot: k.mark.Boot, Sequence: k.mark.Sequence})
	if path != "" {
		return k, nil
	}
	fd, err := unix.Open("/dev/kmsg", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("read the kernel's log: open /dev/kmsg: %w", err)
	}
	k.ring = fd
	return k, nil
}

// Close lets go of the log, and writes the mark.
func (k *Kernel) Close() error {
	err := k.save()
	if k.ring >= 0 {
		err = errors.Join(err, unix.Close(k.ring))
		k.ring = -1
	}
	return err
}

// Read hands over every line that came since the last call, each with the time since boot at which it was written.
func (k *Kernel) Read(hear func(line []byte, at time.Duration)) error {
	var err error
	if k.path == "" {
		err = k.readRing(hear)
	} else {
		err = k.readFile(hear)
	}
	return errors.Join(err, k.save())
}

func (k *Kernel) save() error {
	if k.mark == k.saved {
		return nil
	}
	data, err := json.Marshal(k.mark)
	if err != nil {
		return fmt.Errorf("remember how far the kernel's log was read: %w", err)
	}
	tmp := k.markPath + ".new"
	if err := errors.Join(os.WriteFile(tmp, data, 0o600), os.Rename(tmp, k.markPath)); err != nil {
		return fmt.Errorf("remember how far the kernel's log was read: %w", err)
	}
	k.saved = k.mark
	return nil
}

// readRing reads records until there are no more: PRIORITY,SEQUENCE,MICROSECONDS,FLAGS;TEXT and lines about the device.
func (k *Kernel) readRing(hear func([]byte, time.Duration)) error {
	var buf [maxRecord]byte
	for range maxRecords {
		n, err := unix.Read(k.ring, buf[:])
		switch {
		case errors.Is(err, unix.EPIPE): // overwritten before it was read: the next read goes on behind the gap
			k.Lost++
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN) || n == 0 && err == nil:
			return nil
		case err != nil:
			return fmt.Errorf("read /dev/kmsg: %w", err)
		default:
			record, _, _ := bytes.Cut(buf[:n], []byte{'\n'})
			k.record(record, hear)
		}
	}
	return nil
}

func (k *Kernel) record(record []byte, hear func([]byte, time.Duration)) {
	f := signal.Unframe(record)
	at := max(f.Boot, 0)
	fresh := k.replays.Fresh(signal.Mark{Boot: k.boot, Sequence: f.Sequence}, k.since()-at)
	m := k.replays.Mark()
	k.mark.Boot, k.mark.Sequence = m.Boot, m.Sequence
	if fresh {
		hear(record, at)
	}
}

// readFile reads whole lines behind the mark. Another file under the name, or one that was cut, is read from its
// beginning; the content that a file has when it is first seen is history.
func (k *Kernel) readFile(hear func([]byte, time.Duration)) error {
	f, err := os.Open(k.path)
	if errors.Is(err, fs.ErrNotExist) {
		k.began = true // whatever comes is new
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the kernel's log: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("read the kernel's log: %w", err)
	}
	k.place(info)
	for range maxReads {
		if more, err := k.readSome(f, hear); err != nil || !more {
			return err
		}
	}
	return nil
}

// readSome reads a part of a file and reports whether there may be more.
func (k *Kernel) readSome(f *os.File, hear func([]byte, time.Duration)) (bool, error) {
	text, err := io.ReadAll(io.NewSectionReader(f, k.mark.Offset, maxRead))
	if err != nil {
		return false, fmt.Errorf("read the kernel's log: %w", err)
	}
	end := bytes.LastIndexByte(text, '\n') + 1
	if end == 0 && len(text) == maxRead { // one line longer than is looked at
		k.Lost, end = k.Lost+1, len(text)
	}
	k.mark.Offset += int64(end)
	now := k.since()
	for line := range bytes.Lines(text[:end]) {
		hear(line, now)
	}
	return len(text) == maxRead, nil
}

// place finds where to go on in a file.
func (k *Kernel) place(info fs.FileInfo) {
	var inode uint64
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		inode = st.Ino
	}
	switch {
	case !k.began:
		k.mark.Inode, k.mark.Offset = inode, info.Size()
	case inode != k.mark.Inode || info.Size() < k.mark.Offset:
		k.mark.Inode, k.mark.Offset = inode, 0
	}
	k.began = true
}
