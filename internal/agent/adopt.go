package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/agent/shim"
	"autoheal.dev/autoheal/internal/nodeproto"
)

// adoptAll finds the attempts of earlier lives. What a shim still owns is followed; what has ended is listed; what was
// running before a reboot has ended with it (behaviour C5: nothing is resumed here).
func (a *Agent) adoptAll() error {
	root := filepath.Join(a.dir, "wl")
	workloads, err := os.ReadDir(root)
	if err != nil {
		return fmt.Errorf("find attempts: %w", err)
	}
	for _, w := range workloads {
		if !w.IsDir() || !safeID(autoheal.WorkloadID(w.Name())) {
			continue
		}
		id := autoheal.WorkloadID(w.Name())
		if err := a.readFloor(id); err != nil {
			return err
		}
		attempts, err := os.ReadDir(filepath.Join(root, w.Name()))
		if err != nil {
			return fmt.Errorf("find attempts: %w", err)
		}
		if err := a.sweepFloor(id, attempts); err != nil {
			return err
		}
		for _, e := range attempts {
			n, err := strconv.Atoi(e.Name())
			if err != nil || !e.IsDir() {
				continue
			}
			if err := a.adopt(key{id, n}); err != nil {
				return err
			}
		}
	}
	return nil
}

// floorLife is how long the refusal of old attempt numbers is kept after the last attempt was forgotten: longer than
// any request can be on its way.
const floorLife = 30 * 24 * time.Hour

// sweepFloor removes a workload's folder that has held nothing but an old floor.
func (a *Agent) sweepFloor(w autoheal.WorkloadID, entries []os.DirEntry) error {
	if len(entries) != 1 || entries[0].Name() != floorFile {
		return nil
	}
	info, err := entries[0].Info()
	if err != nil {
		return fmt.Errorf("find attempts: %w", err)
	}
	if a.clk.Now().Sub(info.ModTime()) < floorLife {
		return nil
	}
	delete(a.floors, w)
	return os.RemoveAll(filepath.Join(a.dir, "wl", string(w)))
}

func (a *Agent) readFloor(w autoheal.WorkloadID) error {
	data, err := os.ReadFile(filepath.Join(a.dir, "wl", string(w), floorFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	n, parseErr := strconv.Atoi(strings.TrimSpace(string(data)))
	if err = errors.Join(err, parseErr); err != nil {
		return fmt.Errorf("read refused attempts of %s: %w", w, err)
	}
	a.floors[w] = n
	return nil
}

// explainWithin is how long ago an attempt may have ended whose end nobody may have told of, to be looked into.
const explainWithin = 5 * time.Minute

// adopt lists one attempt. A folder without a spec file is a start that never happened: it was not accepted.
func (a *Agent) adopt(k key) error {
	dir := a.attemptDir(k)
	spec, err := shim.ReadSpec(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return os.RemoveAll(dir)
	}
	if err != nil {
		return fmt.Errorf("adopt attempt %d of %s: %w", k.attempt, k.workload, err)
	}
	at := a.newAttempt(k, dir, spec)
	at.enforced = false // until its shim says so
	at.view = &view{start: &spec.Start, spec: spec, state: nodeproto.AttemptStarting, checks: at.checks}
	a.mu.Lock()
	a.attempts[k] = at
	a.mu.Unlock()
	if spec.BootID != a.bootID {
		if x, err := shim.ReadExited(dir); err == nil {
			a.setExited(at, x)
			return nil
		}
		return a.buryRebooted(at)
	}
	if x, err := shim.ReadExited(dir); err == nil {
		if x.Exit.OwnFault() && a.boot()-time.Duration(x.Ended) < explainWithin {
			a.explain(at, x)
		}
		a.setExited(at, x)
		return nil
	}
	a.wg.Go(func() { a.follow(at, nil, nil) })
	a.watchChecks(at)
	return nil
}

// buryRebooted ends an attempt of an earlier boot. When it ended nobody saw; it was before this boot began.
func (a *Agent) buryRebooted(at *attempt) error {
	bootedWall := a.clk.Now().UnixMilli() - a.boot().Milliseconds()
	x := &shim.Exited{
		Exit:   autoheal.Exit{Code: -1, Reason: autoheal.ExitRebooted, Detail: "the machine booted since"},
		BootID: at.spec.BootID, EndedWall: bootedWall, StartedWall: at.spec.CreatedWall,
	}
	if err := shim.WriteExited(at.dir, x); err != nil {
		return err
	}
	a.setExited(at, x)
	return nil
}
