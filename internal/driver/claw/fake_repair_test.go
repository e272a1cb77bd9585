package claw

import (
	"slices"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/nodeproto"
)

// jobTime is how long a job of a fake agent takes.
const jobTime = 3 * time.Second

// job takes a reset or a test on, once; it passes.
func (a *fakeAgent) job(epoch uint64, s nodeproto.JobStatus) (any, bool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.admitLocked(epoch); err != nil {
		return nil, false, err
	}
	if a.jobs[s.Action] > 0 {
		return nodeproto.Accepted{Accepted: true, Repeated: true}, false, nil
	}
	for _, at := range a.attempts {
		if at.exit == nil && slices.Contains(at.req.GPUs, autoheal.GPUID(s.Target.ID)) {
			return nil, false, errNode(nodeproto.CodeInUse, "held by "+string(at.req.Workload))
		}
	}
	a.jobs[s.Action]++
	a.began[s.Action] = time.Now()
	s.State, s.Simulated = autoheal.JobRunning, true
	a.status.Jobs = append(a.status.Jobs, s)
	a.changeLocked(nodeproto.Change{Node: &a.status})
	time.AfterFunc(jobTime, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		i := slices.IndexFunc(a.status.Jobs, func(j nodeproto.JobStatus) bool { return j.Action == s.Action })
		a.status.Jobs = slices.Clone(a.status.Jobs)
		a.status.Jobs[i].State = autoheal.JobPassed
		a.changeLocked(nodeproto.Change{Node: &a.status})
	})
	return nodeproto.Accepted{Accepted: true}, false, nil
}

// describeLocked is the node with the ages of its jobs.
func (a *fakeAgent) describeLocked() nodeproto.NodeStatus {
	s := a.status
	s.Jobs = slices.Clone(s.Jobs)
	for i := range s.Jobs {
		s.Jobs[i].StartedMS = max(time.Since(a.began[s.Jobs[i].Action]).Milliseconds(), 1)
		if s.Jobs[i].State != autoheal.JobRunning {
			s.Jobs[i].EndedMS = max(s.Jobs[i].StartedMS-jobTime.Milliseconds(), 1)
		}
	}
	return s
}

// hold refuses unless the node is empty.
func (a *fakeAgent) hold(r nodeproto.RebootRequest) (any, bool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.admitLocked(r.Epoch); err != nil {
		return nil, false, err
	}
	for ref, at := range a.attempts {
		if at.exit == nil {
			return nil, false, errNode(nodeproto.CodeInUse, ref.String()+" runs here")
		}
	}
	a.holds = append(a.holds, r.HoldMS)
	return nodeproto.Accepted{Accepted: true}, false, nil
}

func (a *fakeAgent) collect(r nodeproto.CollectRequest) (any, bool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked = r
	return nodeproto.CollectResponse{Texts: map[string]string{"kernel": "lines of " + a.name, "gpu": "report"}}, false, nil
}
