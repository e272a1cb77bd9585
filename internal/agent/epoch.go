package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"autoheal.dev/autoheal/internal/agent/shim"
)

// epochFile keeps the highest healer epoch seen, durably: what an older healer life sent must be refused also after a
// restart of this agent.
type epochFile struct {
	path string

	mu   sync.Mutex // serialises admit; held over the disk write, so that nothing acts on an epoch that is not durable
	seen atomic.Uint64
}

func openEpoch(path string) (*epochFile, error) {
	e := &epochFile{path: path}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return e, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read epoch: %w", err)
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(data)), 10, 64)
	if err != nil {
		return nil, fmt.Errorf("read epoch: %s holds %q instead of a number; it guards against commands of an old healer, so restore it or remove it by hand", path, data)
	}
	e.seen.Store(n)
	return e, nil
}

// errStaleEpoch is returned for an epoch below the highest seen.
var errStaleEpoch = errors.New("epoch is older than one seen before")

// admit refuses an epoch below the highest seen and makes a higher one durable before it returns.
func (e *epochFile) admit(n uint64) error {
	if err := e.check(n); err != nil || n == e.seen.Load() {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.check(n); err != nil || n == e.seen.Load() {
		return err
	}
	if err := shim.WriteDurably(e.path, []byte(strconv.FormatUint(n, 10)+"\n")); err != nil {
		return err
	}
	e.seen.Store(n)
	return nil
}

// check refuses without writing anything.
func (e *epochFile) check(n uint64) error {
	if seen := e.seen.Load(); n < seen {
		return fmt.Errorf("%w: %d after %d", errStaleEpoch, n, seen)
	}
	return nil
}
