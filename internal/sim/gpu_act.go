package sim

import (
	"slices"
	"time"

	"autoheal.dev/autoheal"
)

// onNode are the verbs that a node carries out by itself.
func onNode(v autoheal.Verb) bool {
	return v == autoheal.ResetGPU || v == autoheal.Reboot || v == autoheal.Test || v == autoheal.Collect
}

// machineOf finds the node that an action on a node or on a GPU is for.
func (f *fleet) machineOf(a autoheal.Action) (*machine, *autoheal.Error) {
	if a.Target.Kind == autoheal.RefNode {
		return f.machine(a)
	}
	for _, m := range f.w.machines {
		if a.Target.Kind != autoheal.RefGPU || m.gpuAt(autoheal.GPUID(a.Target.ID)) < 0 {
			continue
		}
		if g := bootName(m.id, f.w.drv.contacts[m.id].boot); a.Target.Generation != "" && a.Target.Generation != g {
			return nil, problem(autoheal.ErrConflict, "the node has booted since: this was meant for %s", a.Target.Generation)
		}
		return m, nil
	}
	return nil, problem(autoheal.ErrNotFound, "there is no such node or GPU")
}

// askNode sends an action to its node, and answers when the node has.
func (f *fleet) askNode(a autoheal.Action, answer func(autoheal.Result)) {
	m, err := f.machineOf(a)
	if err == nil && !slices.Contains(f.caps(m), a.Verb) {
		err = problem(autoheal.ErrUnsupported, "%s cannot %s", m.id, a.Verb)
	}
	if err == nil && (f.w.drv.contacts[m.id].link == autoheal.LinkSilent || !f.w.drv.connected) {
		err = problem(autoheal.ErrUnavailable, "it could not be sent to the node")
	}
	if err != nil {
		answer(f.refused(a, err))
		return
	}
	answered := false
	reply := func(res func() autoheal.Result) {
		if !answered {
			answered = true
			answer(res())
		}
	}
	m.message(true, true, func() {
		err, ok := m.carryOut(f, a)
		if !ok {
			return
		}
		m.message(false, true, func() {
			reply(func() autoheal.Result {
				if err != nil {
					return f.refused(a, err)
				}
				return f.done(a, "")
			})
		})
	})
	f.w.q.after(requestTimeout, func() {
		reply(func() autoheal.Result {
			return autoheal.Result{Action: a.ID, Outcome: autoheal.OutcomeUnknown, Err: problem(autoheal.ErrTimeout, "the node did not answer; it may happen late"), At: f.w.wall()}
		})
	})
}

// carryOut is the node's part; ok is false when nobody is there to answer. What it took on before it does not do twice.
func (m *machine) carryOut(f *fleet, a autoheal.Action) (err *autoheal.Error, ok bool) {
	if !m.healthy() || m.staleEpoch(a.Epoch) {
		return nil, false
	}
	if _, known := f.accepted[a.ID]; known {
		return nil, true
	}
	if a.Target.Generation != "" && a.Target.Generation != bootName(m.id, m.boot) {
		return problem(autoheal.ErrConflict, "this is another boot"), true
	}
	id := autoheal.GPUID("")
	if a.Target.Kind == autoheal.RefGPU {
		id = autoheal.GPUID(a.Target.ID)
	}
	if us := m.users(id); len(us) > 0 && a.Verb != autoheal.Collect {
		return problem(autoheal.ErrConflict, "%s runs there", us[0]), true
	}
	f.took(a, "")
	switch a.Verb {
	case autoheal.Reboot:
		m.w.q.after(time.Second, func() { m.reboot() })
	case autoheal.ResetGPU, autoheal.Test:
		m.begin(a, id)
	}
	return nil, true
}

// reboot takes the node down and up again.
func (m *machine) reboot() {
	if !m.on {
		return
	}
	m.w.note("%s reboots", m.id)
	m.powerOff()
	m.w.q.after(30*time.Second+time.Duration(m.rng.Int64N(int64(5*time.Minute))), m.powerOn)
}

// keepJobs is how many jobs a node remembers.
const keepJobs = 16

// begin takes on a job, which ends after a while.
func (m *machine) begin(a autoheal.Action, id autoheal.GPUID) {
	x := &m.sick
	x.jobs = append(slices.Clone(x.jobs), autoheal.Job{Action: a.ID, Verb: a.Verb, Target: a.Target, State: autoheal.JobRunning, Simulated: true, StartedAt: m.w.wall()})
	x.jobs = x.jobs[max(0, len(x.jobs)-keepJobs):]
	m.report()
	boot := m.boot
	m.w.q.after(5*time.Second+time.Duration(m.rng.Int64N(int64(30*time.Second))), func() {
		if m.boot != boot || !m.on {
			return
		}
		state, why := autoheal.JobPassed, ""
		switch t := x.gpus[id]; {
		case a.Verb == autoheal.ResetGPU && t != nil && t.tried() != nil:
			state, why = autoheal.JobFailed, "it does not come back"
		case a.Verb == autoheal.ResetGPU:
			m.mend(id)
		case id != "" && t != nil || id == "" && (len(x.gpus) > 0 || x.hung != nil):
			state, why = autoheal.JobFailed, "it is not well"
		}
		x.jobs = slices.Clone(x.jobs)
		for n := range x.jobs {
			if x.jobs[n].Action == a.ID {
				x.jobs[n].State, x.jobs[n].Detail, x.jobs[n].EndedAt = state, why, m.w.wall()
			}
		}
		m.report()
	})
}
