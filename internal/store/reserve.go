package store

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"syscall"
)

// ReserveBytes is the usual size of the reserve (behaviour G1).
const ReserveBytes = 16 << 20

// Reservation is a file that does nothing but occupy disk space. Given up when the disk is full, it lets the journal
// write what is needed to stop in order and to go on afterwards.
type Reservation struct {
	path  string
	bytes int64
	mu    sync.Mutex // one change at a time
}

// Reserve makes or checks the file dir/reserve of the given size. The Reservation is usable also with an error, such as
// ErrDiskFull at a start on a full disk: it then holds nothing until Restore succeeds.
func Reserve(dir string, bytes int64) (*Reservation, error) {
	r := &Reservation{path: filepath.Join(dir, "reserve"), bytes: bytes}
	return r, r.Restore()
}

// Held tells whether the space is occupied.
func (r *Reservation) Held() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.heldLocked()
}

// heldLocked looks at the blocks, not only at the length: a sparse copy of the file (a restored backup) holds nothing.
func (r *Reservation) heldLocked() bool {
	info, err := os.Stat(r.path)
	if err != nil || info.Size() != r.bytes {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && st.Blocks*512 >= r.bytes
}

// Release gives the space back to the file system. Releasing twice is fine.
func (r *Reservation) Release() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := os.Remove(r.path); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("release reserve: %w", err)
	}
	if err := syncDir(filepath.Dir(r.path)); err != nil { // some file systems free blocks with their next commit only
		return fmt.Errorf("release reserve: %w", err)
	}
	return nil
}

// Restore occupies the space again. It leaves nothing behind when there is too little.
func (r *Reservation) Restore() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.heldLocked() {
		return nil
	}
	err := r.fill()
	if err == nil {
		err = syncDir(filepath.Dir(r.path))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("reserve %d bytes in %s: %w", r.bytes, r.path, classify(err)), r.drop())
	}
	return nil
}

func (r *Reservation) drop() error {
	if err := os.Remove(r.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("reserve: %w", err)
	}
	return nil
}

// fill writes every byte, and bytes that do not compress: fallocate is not everywhere, and a file system that compresses
// stores zeros in no space.
func (r *Reservation) fill() (err error) {
	f, err := os.OpenFile(r.path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, fileMode)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	src := rand.NewChaCha8([32]byte{})
	buf := make([]byte, 256<<10)
	for left := r.bytes; left > 0; left -= int64(len(buf)) {
		buf = buf[:min(left, int64(cap(buf)))]
		_, _ = src.Read(buf) // never fails
		if _, err := f.Write(buf); err != nil {
			return err
		}
	}
	return f.Sync()
}
