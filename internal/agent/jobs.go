package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/agent/shim"
	"autoheal.dev/autoheal/internal/nodeproto"
)

// keepJobs is how many jobs are remembered, so that the same action is not carried out twice.
const keepJobs = 64

// jobBook keeps the resets and tests of this node in DATA/agents/NAME/jobs.json: an action that was taken is known also
// after a restart of this agent.
type jobBook struct {
	path string

	saving sync.Mutex // serialises changes, over the disk; taken before Agent.mu
	list   []job      // oldest first; guarded by Agent.mu
}

// job is one reset or test. Times are as in shim.Exited.
type job struct {
	nodeproto.JobStatus
	BootID      string `json:"bootId"`
	Started     int64  `json:"started"`
	Ended       int64  `json:"ended,omitempty"`
	StartedWall int64  `json:"startedWall"`
	EndedWall   int64  `json:"endedWall,omitempty"`
}

// openJobs reads what an earlier life of this agent has left. What it was doing ended with it.
func (a *Agent) openJobs() error {
	a.jobs.path = filepath.Join(a.dir, "jobs.json")
	data, err := os.ReadFile(a.jobs.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read jobs: %w", err)
	}
	if err := json.Unmarshal(data, &a.jobs.list); err != nil {
		return fmt.Errorf("read jobs: %s is damaged (%w); it keeps a GPU from being reset twice: look what it says, then remove it", a.jobs.path, err)
	}
	for i := range a.jobs.list {
		if j := &a.jobs.list[i]; j.State == autoheal.JobRunning {
			a.endJob(j, fmt.Errorf("the agent of the node ended while it ran: %w", errUnknownEnd), "")
		}
	}
	return nil
}

// errUnknownEnd is the end of a job that nobody saw.
var errUnknownEnd = errors.New("how it ended is not known")

// endJob writes into j how it ended.
func (a *Agent) endJob(j *job, err error, output string) {
	j.State, j.Output = autoheal.JobPassed, clip(output, nodeproto.MaxJobOutput-4)
	if err != nil {
		j.State, j.Detail = autoheal.JobFailed, clip(err.Error(), maxDetail)
	}
	wall := a.clk.Now().UnixMilli()
	if j.BootID != a.bootID { // both times in terms of this boot
		j.BootID, j.Started = a.bootID, int64(a.boot())-(wall-j.StartedWall)*int64(time.Millisecond)
	}
	j.Ended, j.EndedWall = int64(a.boot()), wall
}

// findJobLocked returns a job, or nil.
func (a *Agent) findJobLocked(id autoheal.ActionID) *job {
	i := slices.IndexFunc(a.jobs.list, func(j job) bool { return j.Action == id })
	if i < 0 {
		return nil
	}
	return &a.jobs.list[i]
}

// knowsJob reports whether an action was taken before.
func (a *Agent) knowsJob(id autoheal.ActionID) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.findJobLocked(id) != nil
}

// enterJob takes an action on, durably, before anything of it is done. It was known before if repeated.
func (a *Agent) enterJob(s nodeproto.JobStatus) (repeated bool, err error) {
	a.jobs.saving.Lock()
	defer a.jobs.saving.Unlock()
	s.State = autoheal.JobRunning
	a.mu.Lock()
	if a.findJobLocked(s.Action) != nil {
		a.mu.Unlock()
		return true, nil
	}
	before := a.jobs.list
	j := job{JobStatus: s, BootID: a.bootID, Started: int64(a.boot()), StartedWall: a.clk.Now().UnixMilli()}
	list := append(slices.Clone(before), j)
	list = list[max(0, len(list)-keepJobs):]
	a.mu.Unlock()
	if err := a.writeJobs(list); err != nil {
		return false, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.jobs.list = list
	a.publishNodeLocked()
	return false, nil
}

// leaveJob tells how a job ended, and keeps it.
func (a *Agent) leaveJob(id autoheal.ActionID, err error, detail, output string) {
	a.jobs.saving.Lock()
	defer a.jobs.saving.Unlock()
	a.mu.Lock()
	list := slices.Clone(a.jobs.list)
	if i := slices.IndexFunc(list, func(j job) bool { return j.Action == id }); i >= 0 {
		list[i].Detail = detail
		a.endJob(&list[i], err, output)
	}
	a.jobs.list = list
	a.publishNodeLocked()
	a.mu.Unlock()
	if err := a.writeJobs(list); err != nil { // it is told; after a restart its end would be unknown
		a.log.Warn("a job's end was not kept", slog.String("action", string(id)), slog.Any("error", err))
	}
}

// writeJobs keeps the list; output of those that are not told any more is left out.
func (a *Agent) writeJobs(list []job) error {
	kept := slices.Clone(list)
	for i := range kept[:max(0, len(kept)-nodeproto.MaxJobs)] {
		kept[i].Output = ""
	}
	data, err := json.Marshal(kept)
	if err != nil {
		return fmt.Errorf("write jobs: %w", err)
	}
	return shim.WriteDurably(a.jobs.path, data)
}

// tellJobsLocked returns the jobs that the node tells: those that run, and the latest that have ended.
func (a *Agent) tellJobsLocked(now time.Duration) []nodeproto.JobStatus {
	var out []nodeproto.JobStatus
	ended := 0
	for i := len(a.jobs.list) - 1; i >= 0; i-- {
		j := &a.jobs.list[i]
		if j.State != autoheal.JobRunning {
			if ended++; ended > nodeproto.MaxJobs {
				continue
			}
		}
		out = append(out, a.renderJob(j, now))
	}
	slices.Reverse(out)
	return out
}

func (a *Agent) renderJob(j *job, now time.Duration) nodeproto.JobStatus {
	s := j.JobStatus
	if j.BootID == a.bootID {
		s.StartedMS = bootAge(now, j.Started)
		if j.State != autoheal.JobRunning {
			s.EndedMS = bootAge(now, j.Ended)
		}
		return s
	}
	wall := a.clk.Now().UnixMilli() // of an earlier boot: the wall clock is all there is
	s.StartedMS = max(wall-j.StartedWall, 1)
	if j.State != autoheal.JobRunning {
		s.EndedMS = max(wall-j.EndedWall, 1)
	}
	return s
}
