package drivertest

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"autoheal.dev/autoheal"
)

func start(id autoheal.WorkloadID, n int, p autoheal.ActionParams) autoheal.Action {
	p.Attempt = n
	return autoheal.Action{Verb: autoheal.Start, Target: autoheal.WorkloadRef(id), Params: p}
}

func stop(id autoheal.WorkloadID, n int, p autoheal.ActionParams) autoheal.Action {
	p.Attempt = n
	return autoheal.Action{Verb: autoheal.Stop, Target: autoheal.WorkloadRef(id), Params: p}
}

func checkStartKey(b *bench) {
	b.need("crash a workload", b.Crash != nil)
	id := b.submit(b.Service("again"))
	b.mustDo(start(id, 1, autoheal.ActionParams{})) // it exists: accepted, nothing happens
	b.mustRefuse(start(id, 3, autoheal.ActionParams{}), autoheal.ErrConflict)
	b.mustRefuse(start(id, 0, autoheal.ActionParams{}), autoheal.ErrInvalid)
	b.mustRefuse(start("wl-none", 2, autoheal.ActionParams{}), autoheal.ErrNotFound)
	b.Crash(id, 1)
	b.await("the crash", func(o *observer) bool { return o.in(id, 1, autoheal.Failed) })
	b.mustDo(start(id, 2, autoheal.ActionParams{MemoryMB: 300}))
	b.mustDo(start(id, 2, autoheal.ActionParams{MemoryMB: 900})) // another action, the same attempt
	b.await("attempt 2 runs", func(o *observer) bool { return o.in(id, 2, autoheal.Running) })
	b.see(func(o *observer) {
		w := o.works[attempt{id, 2}]
		if w.Request.MemoryMB != 300 || w.ID != id || w.OriginalMemoryMB == 300 {
			b.t.Errorf("attempt 2 is %+v", w)
		}
	})
	if b.Started != nil {
		if got := b.Started(id); got[1] != 1 || got[2] != 1 || len(got) != 2 {
			b.t.Errorf("began %v, want each attempt once", got)
		}
	}
	if b.Workloads != nil {
		if l, err := b.Workloads.Lineage(b.t.Context(), id); err != nil || len(l) != 2 || l[0].Attempt != 1 || l[0].Exit == nil {
			b.t.Errorf("lineage %+v (%v)", l, err)
		}
	}
}

func checkStartWishes(b *bench) {
	b.need("crash a workload", b.Crash != nil)
	id := b.submit(b.Service("picky"))
	was := b.nodeOf(id)
	b.Crash(id, 1)
	b.await("the crash", func(o *observer) bool { return o.in(id, 1, autoheal.Failed) })
	others := slices.DeleteFunc(slices.Clone(b.Nodes), func(n autoheal.NodeID) bool { return n == was })
	b.mustDo(start(id, 2, autoheal.ActionParams{Avoid: append([]autoheal.NodeID{was}, others[1:]...)}))
	b.await("attempt 2 runs", func(o *observer) bool { return o.in(id, 2, autoheal.Running) })
	if got := b.nodeOf(id); got != others[0] {
		b.t.Errorf("placed on %s, want %s", got, others[0])
	}
	b.Crash(id, 2)
	b.await("the second crash", func(o *observer) bool { return o.in(id, 2, autoheal.Failed) })
	want := b.Nodes[len(b.Nodes)-1]
	b.mustDo(start(id, 3, autoheal.ActionParams{Nominated: want}))
	b.await("attempt 3 runs", func(o *observer) bool { return o.in(id, 3, autoheal.Running) })
	if got := b.nodeOf(id); got != want {
		b.t.Errorf("placed on %s, nominated was %s", got, want)
	}
}

func checkAtMostOnce(b *bench) {
	b.need("cut a node off and heal it", b.CutNode != nil && b.HealNode != nil && b.RunningCopies != nil)
	id := b.submit(b.Job("training"))
	b.see(func(o *observer) {
		if !o.current(id).AtMostOnce {
			b.t.Fatal("the job is not at-most-once")
		}
	})
	on := b.nodeOf(id)
	b.mustRefuse(start(id, 2, autoheal.ActionParams{}), autoheal.ErrConflict)
	b.mustRefuse(start(id, 2, autoheal.ActionParams{Proof: autoheal.ProofNone}), autoheal.ErrConflict)
	b.mustRefuse(start(id, 2, autoheal.ActionParams{Hedge: true}), autoheal.ErrConflict)
	// Its node answers: a proof that rests on its silence is out of date.
	for _, stale := range []autoheal.Proof{autoheal.ProofSelfStop, autoheal.ProofPowerOff, autoheal.ProofOperator} {
		b.mustRefuse(start(id, 2, autoheal.ActionParams{Proof: stale}), autoheal.ErrConflict)
	}
	b.CutNode(on)
	b.await("silence", func(o *observer) bool { return o.nodes[on].Link == autoheal.LinkSilent })
	b.mustRefuse(start(id, 2, autoheal.ActionParams{}), autoheal.ErrConflict)
	if n := b.RunningCopies(id); n > 1 {
		b.t.Fatalf("%d copies run", n)
	}
	b.mustDo(start(id, 2, autoheal.ActionParams{Proof: autoheal.ProofOperator, Avoid: []autoheal.NodeID{on}}))
	b.await("attempt 2 runs", func(o *observer) bool { return o.in(id, 2, autoheal.Running) })
	b.await("attempt 1 is given up", func(o *observer) bool { return o.works[attempt{id, 1}].State.Ended() })
}

// checkMayRunTwice: beside a copy out of reach an extra one is started without proof. The older one stays listed, and is
// still there when its node is back.
func checkMayRunTwice(b *bench) {
	b.need("cut a node off and heal it", b.CutNode != nil && b.HealNode != nil && b.RunningCopies != nil)
	id := b.submit(b.Service("replica"))
	on := b.nodeOf(id)
	b.mustRefuse(start(id, 2, autoheal.ActionParams{Proof: autoheal.ProofNone}), autoheal.ErrConflict)
	b.CutNode(on)
	b.await("silence", func(o *observer) bool { return o.nodes[on].Link == autoheal.LinkSilent })
	b.mustDo(start(id, 2, autoheal.ActionParams{Proof: autoheal.ProofNone, Hedge: true, Avoid: []autoheal.NodeID{on}}))
	b.await("attempt 2 runs elsewhere", func(o *observer) bool {
		return o.in(id, 2, autoheal.Running) && o.works[attempt{id, 2}].Node != on && o.in(id, 1, autoheal.Running)
	})
	b.HealNode(on)
	b.await("the node is back", func(o *observer) bool { return o.nodes[on].Link == autoheal.LinkUp })
	if n := b.RunningCopies(id); n != 2 {
		b.t.Fatalf("%d copies run, want both: the driver settles nothing by itself", n)
	}
	b.mustDo(stop(id, 1, autoheal.ActionParams{Attempt: 1}))
	b.await("the older copy ends", func(o *observer) bool { return o.works[attempt{id, 1}].State.Ended() })
}

func checkHedge(b *bench) {
	id := b.submit(b.Service("hedged"))
	on := b.nodeOf(id)
	b.mustRefuse(start(id, 2, autoheal.ActionParams{}), autoheal.ErrConflict)
	b.mustDo(start(id, 2, autoheal.ActionParams{Hedge: true, Avoid: []autoheal.NodeID{on}}))
	b.await("both copies run", func(o *observer) bool {
		return o.in(id, 1, autoheal.Running) && o.in(id, 2, autoheal.Running) && o.works[attempt{id, 2}].Hedge
	})
	b.mustDo(stop(id, 1, autoheal.ActionParams{}))
	b.await("the older copy ends", func(o *observer) bool { return o.works[attempt{id, 1}].State.Ended() })
	b.quietly("the newer one goes on", 10*time.Second, func(o *observer) bool { return o.in(id, 2, autoheal.Running) })
}

func checkStop(b *bench) {
	id, other := b.submit(b.Service("stopped")), b.submit(b.Service("bystander"))
	a := stop(id, 1, autoheal.ActionParams{Grace: time.Second})
	a.ID = "inc-000002/1"
	b.mustDo(a)
	b.await("it ends", func(o *observer) bool { return o.works[attempt{id, 1}].State.Ended() })
	b.see(func(o *observer) {
		w := o.works[attempt{id, 1}]
		if w.Exit == nil || w.Exit.Reason != autoheal.ExitStopped || w.Exit.OwnFault() || w.Desired != autoheal.DesiredRunning {
			b.t.Errorf("exit %+v, desired %s", w.Exit, w.Desired)
		}
		if !o.in(other, 1, autoheal.Running) {
			b.t.Error("a bystander was stopped")
		}
	})
	b.mustDo(a)
	if r := b.mustDo(stop(id, 1, autoheal.ActionParams{})); r.Proof != autoheal.ProofExitObserved {
		b.t.Errorf("proof %q of an end that was seen", r.Proof)
	}
	if r := b.mustDo(stop("wl-none", 1, autoheal.ActionParams{})); r.Err == nil || r.Err.Kind != autoheal.ErrNotFound {
		b.t.Errorf("stopping nothing: %+v", r.Err)
	}
	b.quietly("nothing comes back by itself", 20*time.Second, func(o *observer) bool { return o.current(id).Attempt == 1 })
}

func checkStopFinal(b *bench) {
	id := b.submit(b.Service("done"))
	b.mustDo(autoheal.Action{Verb: autoheal.Stop, Target: autoheal.WorkloadRef(id), Actor: "ann", Params: autoheal.ActionParams{Final: true}})
	b.await("it is cancelled", func(o *observer) bool {
		return o.in(id, 1, autoheal.Cancelled) && o.works[attempt{id, 1}].Desired == autoheal.DesiredCancelled
	})
	b.mustRefuse(start(id, 2, autoheal.ActionParams{}), autoheal.ErrConflict)
}

func checkPause(b *bench) {
	b.need("crash a workload", b.Crash != nil)
	id := b.submit(b.Service("paused"))
	act := func(v autoheal.Verb) autoheal.Action {
		return autoheal.Action{Verb: v, Target: autoheal.WorkloadRef(id), Reason: "crash loop"}
	}
	b.mustDo(act(autoheal.Pause))
	b.await("the mark", func(o *observer) bool {
		w := o.current(id)
		return w.Paused != nil && w.Paused.By == autoheal.ByAutoheal && w.Desired == autoheal.DesiredPaused
	})
	b.quietly("it runs on", 10*time.Second, func(o *observer) bool { return o.in(id, 1, autoheal.Running) })
	b.Crash(id, 1)
	b.await("the crash", func(o *observer) bool { return o.in(id, 1, autoheal.Failed) })
	b.mustRefuse(start(id, 2, autoheal.ActionParams{}), autoheal.ErrConflict)
	b.mustDo(act(autoheal.Resume))
	b.await("the mark is gone", func(o *observer) bool {
		w := o.current(id)
		return w.Paused == nil && w.Desired == autoheal.DesiredRunning
	})
	b.mustDo(start(id, 2, autoheal.ActionParams{}))
	b.await("it runs", func(o *observer) bool { return o.in(id, 2, autoheal.Running) })
}

// checkScaleSingle: scaling a service that runs as one process stops that process; nobody may take this for a failure.
func checkScaleSingle(b *bench) {
	b.need("scale", slices.Contains(b.Cluster.Capabilities().Verbs, autoheal.Scale))
	id := b.submit(b.Service("single"))
	b.mustDo(autoheal.Action{Verb: autoheal.Scale, Target: autoheal.WorkloadRef(id), Actor: "ann", Params: autoheal.ActionParams{Replicas: 2}})
	b.await("two replicas", func(o *observer) bool {
		n := 0
		for _, w := range o.works {
			if w.Parent == id && w.State == autoheal.Running {
				n++
			}
		}
		return n == 2
	})
	b.quietly("the service is never told as failed", 10*time.Second, func(o *observer) bool { return o.current(id).State != autoheal.Failed })
	b.mustDo(autoheal.Action{Verb: autoheal.Scale, Target: autoheal.WorkloadRef(id), Actor: "ann", Params: autoheal.ActionParams{Replicas: 0}})
	b.quietly("nor when it is scaled to nothing", 10*time.Second, func(o *observer) bool { return o.current(id).State != autoheal.Failed })
}

func checkScale(b *bench) {
	b.need("scale", slices.Contains(b.Cluster.Capabilities().Verbs, autoheal.Scale))
	id := b.submitOnly(with(b.Service("web"), autoheal.LabelReplicas, "2", autoheal.LabelMinReplicas, "1"))
	scale := func(n int, actor string) autoheal.Action {
		return autoheal.Action{Verb: autoheal.Scale, Target: autoheal.WorkloadRef(id), Actor: actor, Params: autoheal.ActionParams{Replicas: n}}
	}
	running := func(o *observer) []string {
		var out []string
		for k, w := range o.works {
			if w.Parent == id && w.State == autoheal.Running {
				out = append(out, string(k.id))
			}
		}
		slices.Sort(out)
		return out
	}
	children := func(n int) []string {
		var out []string
		for i := range n {
			out = append(out, fmt.Sprintf("%s-%d", id, i))
		}
		return out
	}
	b.await("two replicas", func(o *observer) bool { return slices.Equal(running(o), children(2)) })
	b.see(func(o *observer) {
		a, c := o.current(autoheal.WorkloadID(children(2)[0])), o.current(autoheal.WorkloadID(children(2)[1]))
		if a.Node == c.Node {
			b.t.Errorf("both replicas are on %s", a.Node)
		}
		if p := o.current(id); p == nil || p.Replicas != 2 || p.MinReplicas != 1 {
			b.t.Errorf("the service is told as %+v", p)
		}
	})
	b.mustDo(scale(3, "ann"))
	b.await("three replicas", func(o *observer) bool { return slices.Equal(running(o), children(3)) })
	b.mustDo(scale(1, autoheal.ActorEngine))
	b.await("the first one is left", func(o *observer) bool { return slices.Equal(running(o), children(1)) })
	b.mustRefuse(scale(0, autoheal.ActorEngine), autoheal.ErrConflict)
	b.mustDo(scale(2, "ann"))
	b.await("the second one is back as a new attempt", func(o *observer) bool {
		return slices.Equal(running(o), children(2)) && o.current(autoheal.WorkloadID(children(2)[1])).Attempt == 2
	})
	b.mustDo(autoheal.Action{Verb: autoheal.Stop, Target: autoheal.WorkloadRef(id), Actor: "ann", Params: autoheal.ActionParams{Final: true}})
	b.await("all are stopped with the service", func(o *observer) bool { return len(running(o)) == 0 && o.current(id).State == autoheal.Cancelled })
}

func checkGang(b *bench) {
	b.need("GPUs", b.GPUs >= 1)
	size := len(b.Nodes)
	member := func(gang string, rank, gpus int) autoheal.Spec {
		s := with(b.Job(fmt.Sprintf("%s-%d", gang, rank)), autoheal.LabelGang, gang, autoheal.LabelGangSize, fmt.Sprint(size), autoheal.LabelRank, fmt.Sprint(rank))
		s.GPUs = gpus
		return s
	}
	var ids []autoheal.WorkloadID
	for r := range size - 1 {
		ids = append(ids, b.submitOnly(member("team", r, b.GPUs)))
	}
	b.await("a reason for waiting", func(o *observer) bool { // of each, so that all are known below
		return !slices.ContainsFunc(ids, func(id autoheal.WorkloadID) bool {
			w := o.current(id)
			return w == nil || !strings.Contains(w.Detail, "gang")
		})
	})
	b.quietly("no member starts before the gang is whole", 10*time.Second, func(o *observer) bool {
		return !slices.ContainsFunc(ids, func(id autoheal.WorkloadID) bool { return o.current(id).State != autoheal.Pending })
	})
	ids = append(ids, b.submitOnly(member("team", size-1, b.GPUs)))
	b.await("all members run", func(o *observer) bool {
		return !slices.ContainsFunc(ids, func(id autoheal.WorkloadID) bool { return !o.in(id, 1, autoheal.Running) })
	})
	b.see(func(o *observer) {
		for i, id := range ids {
			if w := o.current(id); w.Gang != "team" || w.Rank != i || w.GangSize != size || len(w.GPUs) != b.GPUs {
				b.t.Errorf("member %s is told as %+v", id, w)
			}
		}
	})
	all := func(want autoheal.Desired) func(o *observer) bool {
		return func(o *observer) bool {
			return !slices.ContainsFunc(ids, func(id autoheal.WorkloadID) bool { return o.current(id).Desired != want })
		}
	}
	b.mustDo(autoheal.Action{Verb: autoheal.Pause, Target: autoheal.WorkloadRef(ids[size-1])})
	b.await("a gang is paused as a whole", all(autoheal.DesiredPaused))
	b.mustDo(autoheal.Action{Verb: autoheal.Resume, Target: autoheal.WorkloadRef(ids[0])})
	b.await("and resumed as a whole", all(autoheal.DesiredRunning))
	var second []autoheal.WorkloadID
	for r := range size { // no GPU is left
		second = append(second, b.submitOnly(member("late", r, 1)))
	}
	b.mustDo(autoheal.Action{Verb: autoheal.Stop, Target: autoheal.WorkloadRef(ids[0]), Actor: "ann", Params: autoheal.ActionParams{Final: true}})
	b.await("one member of the first gang is gone", func(o *observer) bool { return o.in(ids[0], 1, autoheal.Cancelled) })
	if b.GPUs < size {
		b.quietly("a gang is not placed in part", 10*time.Second, func(o *observer) bool {
			return !slices.ContainsFunc(second, func(id autoheal.WorkloadID) bool { return o.current(id).State != autoheal.Pending })
		})
	}
}

func checkDrain(b *bench) {
	b.need("drain", slices.Contains(b.Cluster.Capabilities().Verbs, autoheal.Drain))
	from := b.Nodes[0]
	for _, id := range b.Nodes[1:] {
		b.mustDo(autoheal.Action{Verb: autoheal.Cordon, Target: autoheal.NodeRef(id)})
	}
	svc, job := b.submit(b.Service("moves")), b.submit(b.Job("moves-once"))
	b.mustDo(autoheal.Action{Verb: autoheal.Drain, Target: autoheal.NodeRef(from), Params: autoheal.ActionParams{Grace: time.Second}})
	b.await("draining, and what has no place is named", func(o *observer) bool {
		n := o.nodes[from]
		return n.Draining && !n.Schedulable && strings.Contains(fmt.Sprint(n.Conditions), string(svc))
	})
	b.quietly("nothing is stopped that has no place", 10*time.Second, func(o *observer) bool {
		return o.in(svc, 1, autoheal.Running) && o.in(job, 1, autoheal.Running)
	})
	b.mustDo(autoheal.Action{Verb: autoheal.Uncordon, Target: autoheal.NodeRef(b.Nodes[1])})
	for _, id := range []autoheal.WorkloadID{svc, job} {
		b.await(string(id)+" runs elsewhere", func(o *observer) bool {
			return o.in(id, 2, autoheal.Running) && o.current(id).Node == b.Nodes[1] && o.works[attempt{id, 1}].State.Ended()
		})
	}
	b.see(func(o *observer) {
		if w := o.works[attempt{job, 1}]; w.Exit.Reason != autoheal.ExitDrained || w.EndedAt.After(o.works[attempt{job, 2}].StartedAt) {
			b.t.Errorf("attempt 1 ended at %v with %+v, attempt 2 began at %v", w.EndedAt, w.Exit, o.works[attempt{job, 2}].StartedAt)
		}
	})
	b.await("the drain has ended, the mark stays", func(o *observer) bool { n := o.nodes[from]; return !n.Draining && !n.Schedulable })
}
