package cgroup

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"autoheal.dev/autoheal/internal/clock"
)

// rounds and the longest pause bound Kill to about five seconds: a process in an uninterruptible wait of a driver may
// outlast it. What is just dying is mostly gone within the first pause.
const (
	rounds     = 250
	firstPause = 500 * time.Microsecond
	lastPause  = 20 * time.Millisecond
)

// pause waits before the next round, longer each time.
func pause(clk clock.Clock, round int) {
	wait(clk, min(firstPause<<min(round, 16), lastPause))
}

// Kill ends every process in the group and waits until it is empty. On version 2 the kernel does it in one go; on
// version 1 the group is frozen first, so that a fork bomb cannot outrun the list. An error says what is left.
func (g Group) Kill(clk clock.Clock) error {
	for n := range rounds {
		pids := g.Procs()
		if len(pids) == 0 {
			return nil
		}
		g.killOnce(clk, pids)
		pause(clk, n)
	}
	if pids := g.Procs(); len(pids) > 0 {
		return fmt.Errorf("kill control group: %d processes survive SIGKILL, the first is %d", len(pids), pids[0])
	}
	return nil
}

func (g Group) killOnce(clk clock.Clock, pids []int) {
	if g.Version == V2 && write(filepath.Join(g.Dirs[""], "cgroup.kill"), "1") == nil {
		return // before Linux 5.14 the file is missing: then one by one
	}
	thaw := g.freeze(clk)
	defer thaw()
	for _, pid := range append(pids, g.Procs()...) {
		_ = unix.Kill(pid, unix.SIGKILL) // gone already is as good
	}
}

// freeze stops a version 1 group and returns the function that lets it go on, which killed processes need to die.
func (g Group) freeze(clk clock.Clock) (thaw func()) {
	dir := g.Dirs["freezer"]
	if g.Version != V1 || dir == "" {
		return func() {}
	}
	state := filepath.Join(dir, "freezer.state")
	if write(state, "FROZEN") != nil {
		return func() {}
	}
	for range 10 { // one that does not freeze in time is killed unfrozen, and again in the next round
		if strings.TrimSpace(readText(state)) == "FROZEN" {
			break
		}
		wait(clk, time.Millisecond)
	}
	return func() { _ = write(state, "THAWED") }
}

// RemoveSoon removes a group whose last process is just leaving it.
func (g Group) RemoveSoon(clk clock.Clock) error {
	var err error
	for n := range rounds {
		if err = g.Remove(); err == nil || !errors.Is(err, unix.EBUSY) {
			return err
		}
		pause(clk, n)
	}
	return err
}

// OwnTasks returns, per folder of a version 1 hierarchy in g, the tasks file of the calling process's own group: where a
// thread that joined g goes back to.
func (h Host) OwnTasks(g Group) []string {
	var files []string
	for c := range g.Dirs {
		if mount, ok := h.Mounts[c]; ok {
			files = append(files, filepath.Join(mount, h.Own[c], "tasks"))
		}
	}
	return files
}

// LeaveThread moves the calling thread back, by the tasks files that OwnTasks gave before it joined.
func LeaveThread(tasks []string) error {
	var errs []error
	for _, f := range tasks {
		errs = append(errs, write(f, "0"))
	}
	return errors.Join(errs...)
}

func wait(clk clock.Clock, d time.Duration) {
	t := clk.NewTimer(d)
	<-t.C()
}

// Stat counts what out-of-memory verdicts and reports need.
type Stat struct {
	OOMKills int64 `json:"oomKills"` // processes of this group killed for memory, whoever's limit it was
	OwnHits  int64 `json:"ownHits"`  // times this group's own limit refused memory
	AboveHit int64 `json:"aboveHit"` // the same for the limits above it
	PeakMB   int64 `json:"peakMb"`
	UsageMB  int64 `json:"usageMb"`
}

// Read returns the group's counters; a group that is gone counts zero.
func (g Group) Read() Stat {
	if g.Version == V2 {
		dir := g.Dirs[""]
		local := parseFlat(readText(filepath.Join(dir, "memory.events")))
		above := parseFlat(readText(filepath.Join(filepath.Dir(dir), "memory.events.local")))
		return Stat{
			OOMKills: local["oom_kill"], OwnHits: local["oom"], AboveHit: above["oom"],
			PeakMB: readMB(filepath.Join(dir, "memory.peak")), UsageMB: readMB(filepath.Join(dir, "memory.current")),
		}
	}
	dir := g.Dirs["memory"]
	if dir == "" {
		return Stat{}
	}
	return Stat{
		OOMKills: parseFlat(readText(filepath.Join(dir, "memory.oom_control")))["oom_kill"],
		OwnHits:  readInt(filepath.Join(dir, "memory.failcnt")),
		AboveHit: readInt(filepath.Join(filepath.Dir(dir), "memory.failcnt")),
		PeakMB:   readMB(filepath.Join(dir, "memory.max_usage_in_bytes")),
		UsageMB:  readMB(filepath.Join(dir, "memory.usage_in_bytes")),
	}
}

// MemoryPath returns the group's path in the memory hierarchy as the kernel log writes it, or its end where the mount
// shows only a part of the hierarchy.
func (g Group) MemoryPath(h Host) string {
	key := "memory"
	if g.Version == V2 {
		key = ""
	}
	return strings.TrimPrefix(g.Dirs[key], h.Mounts[key])
}
