package agent

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/agent/shim"
)

// Bounds of the output that is kept of attempts that were forgotten.
const (
	keptPerWorkload = 8
	keptAttempts    = 512
	keptBytes       = 256 << 20
)

// keptOutput is what the last forgotten attempts wrote: a person who is told to look for the cause in the output of a
// workload does so after its end. Only lines and times are kept, never the environment. Losing some of it loses no proof,
// so nothing here is ever in the way of forgetting.
type keptOutput struct {
	dir string // DATA/agents/NAME/kept, with a folder WORKLOAD.ATTEMPT for each

	mu sync.Mutex
	// mu guards what follows, and the folders. It is held over the disk.
	entries []keptEntry // oldest first
	bytes   int64
}

type keptEntry struct {
	key
	size int64
	at   time.Time
}

// keptTimes turns times of the attempt's boot into times of the clock.
type keptTimes struct {
	BootID      string `json:"bootId"`
	CreatedBoot int64  `json:"createdBoot"`
	CreatedWall int64  `json:"createdWall"`
}

const keptTimesFile = "times.json"

func timesOf(s *shim.Spec) keptTimes { return keptTimes{s.BootID, s.CreatedBoot, s.CreatedWall} }

func (k *keptOutput) folder(of key) string {
	return filepath.Join(k.dir, string(of.workload)+"."+strconv.Itoa(of.attempt))
}

// open finds what earlier lives kept.
func (k *keptOutput) open() error {
	if err := os.MkdirAll(k.dir, 0o700); err != nil {
		return fmt.Errorf("make folder of kept output: %w", err)
	}
	found, err := os.ReadDir(k.dir)
	if err != nil {
		return fmt.Errorf("find kept output: %w", err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, f := range found {
		at := strings.LastIndexByte(f.Name(), '.')
		if at < 0 {
			continue
		}
		n, err := strconv.Atoi(f.Name()[at+1:])
		if err != nil {
			continue
		}
		k.noteLocked(key{autoheal.WorkloadID(f.Name()[:at]), n})
	}
	slices.SortFunc(k.entries, func(a, b keptEntry) int {
		return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.workload, b.workload), cmp.Compare(a.attempt, b.attempt))
	})
	return k.pruneLocked()
}

// keep moves the output of an ended attempt here. It may be called again after it was cut short.
func (k *keptOutput) keep(of key, from string, times keptTimes) error {
	files, err := filepath.Glob(filepath.Join(from, shim.LogFile+".*[0-9]"))
	if err != nil || len(files) == 0 {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	to := k.folder(of)
	text, err := json.Marshal(times)
	if err == nil {
		err = os.MkdirAll(to, 0o700)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(to, keptTimesFile), text, 0o600)
	}
	for _, f := range files {
		if err == nil {
			err = os.Rename(f, filepath.Join(to, filepath.Base(f)))
		}
	}
	if err != nil {
		return fmt.Errorf("keep output: %w", errors.Join(err, os.RemoveAll(to)))
	}
	k.dropLocked(func(e keptEntry) bool { return e.key == of }) // cut short before
	k.noteLocked(of)
	return k.pruneLocked()
}

// noteLocked counts what the folder of an attempt holds.
func (k *keptOutput) noteLocked(of key) {
	e := keptEntry{key: of}
	files, err := os.ReadDir(k.folder(of))
	if err != nil {
		return
	}
	for _, f := range files {
		if info, err := f.Info(); err == nil {
			e.size += info.Size()
			if f.Name() == keptTimesFile {
				e.at = info.ModTime()
			}
		}
	}
	k.entries = append(k.entries, e)
	k.bytes += e.size
}

// dropLocked takes entries off the list.
func (k *keptOutput) dropLocked(is func(keptEntry) bool) {
	k.entries = slices.DeleteFunc(k.entries, func(e keptEntry) bool {
		if is(e) {
			k.bytes -= e.size
			return true
		}
		return false
	})
}

// pruneLocked removes the oldest beyond the bounds.
func (k *keptOutput) pruneLocked() error {
	per := map[autoheal.WorkloadID]int{}
	for _, e := range k.entries {
		per[e.workload]++
	}
	var errs []error
	bytes, left := k.bytes, len(k.entries)
	k.dropLocked(func(e keptEntry) bool {
		if per[e.workload] <= keptPerWorkload && left <= keptAttempts && bytes <= keptBytes {
			return false
		}
		per[e.workload]--
		left--
		bytes -= e.size
		errs = append(errs, os.RemoveAll(k.folder(e.key)))
		return true
	})
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove old output: %w", err)
	}
	return nil
}

// read returns what is kept of an attempt, or of the newest one of a workload with attempt 0.
func (k *keptOutput) read(of key) (found key, times keptTimes, chunks []logChunk, ok bool, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, e := range k.entries {
		if e.workload == of.workload && (of.attempt == e.attempt || of.attempt == 0 && e.attempt > found.attempt) {
			found, ok = e.key, true
		}
	}
	if !ok {
		return found, times, nil, false, nil
	}
	text, err := os.ReadFile(filepath.Join(k.folder(found), keptTimesFile))
	if err == nil {
		err = json.Unmarshal(text, &times)
	}
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return found, times, nil, false, nil
		}
		return found, times, nil, false, fmt.Errorf("read kept output: %w", err)
	}
	chunks, err = readLogFiles(k.folder(found))
	return found, times, chunks, err == nil, err
}

// keepOutput saves what an attempt wrote before its folder goes.
func (a *Agent) keepOutput(at *attempt) {
	if err := a.kept.keep(at.key, at.dir, timesOf(at.spec)); err != nil {
		a.log.LogAttrs(a.ctx, slog.LevelWarn, "the output of a forgotten attempt is lost",
			slog.String("workload", string(at.key.workload)), slog.Int("attempt", at.key.attempt), slog.String("error", err.Error()))
	}
}
