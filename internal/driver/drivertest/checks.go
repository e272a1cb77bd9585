package drivertest

import (
	"slices"
	"strings"
	"time"

	"autoheal.dev/autoheal"
)

// checks are the sentences of the port.
var checks = []struct {
	name string
	run  func(*bench)
}{
	{"ListingThenSynced", checkListing},
	{"OneWatchAtATime", checkOneWatch},
	{"CapabilitiesAreHonest", checkCapabilities},
	{"StaleEpochIsRefused", checkEpoch},
	{"GenerationGuards", checkGeneration},
	{"ActionsAreIdempotent", checkIdempotent},
	{"CordonKeepsNewWorkAway", checkCordon},
	{"OnlyOwnMarksAreRemoved", checkMarks},
	{"QuarantineKeepsAGPUFree", checkQuarantine},
	{"SubmitIsIdempotent", checkSubmit},
	{"SubmitRefusesNonsense", checkSubmitInvalid},
	{"WhatFitsNowhereStaysPending", checkPending},
	{"NothingRestartsByItself", checkNoRestart},
	{"StartIsKeyedByAttempt", checkStartKey},
	{"StartHonoursItsWishes", checkStartWishes},
	{"AtMostOnceNeedsProof", checkAtMostOnce},
	{"MayRunTwiceNeedsNoProof", checkMayRunTwice},
	{"HedgeIsAnExtraCopy", checkHedge},
	{"StopEndsExactlyOne", checkStop},
	{"StopForGood", checkStopFinal},
	{"PauseKillsNothing", checkPause},
	{"ScaleMakesChildren", checkScale},
	{"ScaleOfASingleIsNoFailure", checkScaleSingle},
	{"GangsStartWhole", checkGang},
	{"DrainMovesAndWaits", checkDrain},
	{"PreemptionKeepsThePlaces", checkPreempt},
	{"RoomForNobodyIsGivenBack", checkRoomGivenBack},
	{"SilenceIsSeen", checkSilence},
	{"KilledNodeReturns", checkKilled},
	{"LostAnswerIsUnknown", checkLostAnswer},
	{"LostStartRunsOnce", checkLostStart},
	{"UnsentIsNotSent", checkNotSent},
	{"LostThenSyncedAnew", checkLost},
	{"RefreshTellsAnew", checkRefresh},
	{"LogsAndMetrics", checkReads},
	{"RepairsAreJobs", checkRepair},
	{"RebootsAreOfEmptyNodes", checkReboot},
	{"FencingProves", checkFence},
	{"CapturesAreKept", checkCollect},
}

func checkListing(b *bench) {
	b.see(func(o *observer) {
		seen := map[autoheal.EventKind]bool{}
		for _, e := range o.events {
			if e.Kind == autoheal.EventNode && seen[autoheal.EventWorkload] && !seen[autoheal.EventSynced] {
				b.t.Error("a node came after a workload in the listing")
			}
			if e.SeenAt.IsZero() || e.At.IsZero() || e.Source == "" {
				b.t.Errorf("event without time or source: %+v", e)
			}
			if e.At.After(e.SeenAt) {
				b.t.Errorf("%s was true at %v, after it was learned at %v", e.Kind, e.At, e.SeenAt)
			}
			seen[e.Kind] = true
		}
		for _, id := range b.Nodes {
			n := o.nodes[id]
			if n.LastSeen.IsZero() || n.LinkSince.IsZero() || n.BootID == "" || len(n.GPUs) != b.GPUs {
				b.t.Errorf("node %s is told incompletely: %+v", id, n)
			}
		}
	})
}

func checkOneWatch(b *bench) {
	for _, err := range b.Cluster.Watch(b.t.Context()) {
		if autoheal.KindOf(err) != autoheal.ErrConflict {
			b.t.Errorf("a second watch yields %v, want a conflict", err)
		}
		break
	}
}

func checkCapabilities(b *bench) {
	caps := b.Cluster.Capabilities()
	for _, v := range autoheal.Verbs() {
		if !slices.Contains(caps.Verbs, v) {
			b.mustRefuse(autoheal.Action{Verb: v, Target: autoheal.NodeRef(b.Nodes[0])}, autoheal.ErrUnsupported)
		}
	}
	b.mustRefuse(autoheal.Action{Verb: "explode", Target: autoheal.NodeRef(b.Nodes[0])}, autoheal.ErrUnsupported)
	b.see(func(o *observer) {
		for _, n := range o.nodes {
			for _, v := range n.Caps {
				if !slices.Contains(caps.Verbs, v) {
					b.t.Errorf("node %s offers %s, which the driver cannot", n.ID, v)
				}
			}
			if n.SelfStop && !caps.SelfStop {
				b.t.Errorf("node %s has self-stop, the driver has not", n.ID)
			}
		}
	})
}

func checkEpoch(b *bench) {
	target := autoheal.NodeRef(b.Nodes[0])
	b.mustDo(autoheal.Action{Verb: autoheal.Cordon, Target: target, Epoch: b.Epoch + 5})
	b.mustRefuse(autoheal.Action{Verb: autoheal.Uncordon, Target: target, Epoch: b.Epoch + 4}, autoheal.ErrConflict)
	b.await("the cordon", func(o *observer) bool { return !o.nodes[b.Nodes[0]].Schedulable })
	b.mustDo(autoheal.Action{Verb: autoheal.Uncordon, Target: target, Epoch: b.Epoch + 5})
	b.await("its end", func(o *observer) bool { return o.nodes[b.Nodes[0]].Schedulable })
}

func checkGeneration(b *bench) {
	id := b.Nodes[0]
	ref := autoheal.NodeRef(id)
	ref.Generation = "some-other-boot"
	b.mustRefuse(autoheal.Action{Verb: autoheal.Cordon, Target: ref}, autoheal.ErrConflict)
	b.see(func(o *observer) { ref = o.nodes[id].Ref() })
	b.mustDo(autoheal.Action{Verb: autoheal.Cordon, Target: ref})
	b.mustRefuse(autoheal.Action{Verb: autoheal.Cordon, Target: autoheal.NodeRef("no-such-node")}, autoheal.ErrNotFound)
}

func checkIdempotent(b *bench) {
	target := autoheal.NodeRef(b.Nodes[0])
	first := autoheal.Action{ID: "inc-000009/1", Verb: autoheal.Cordon, Target: target}
	b.mustDo(first)
	b.mustDo(autoheal.Action{Verb: autoheal.Uncordon, Target: target})
	b.mustDo(first) // late or repeated: accepted, and acts no second time
	b.mustDo(autoheal.Action{Verb: autoheal.Cordon, Target: autoheal.NodeRef(b.Nodes[1])})
	b.await("the cordon of the other node", func(o *observer) bool { return !o.nodes[b.Nodes[1]].Schedulable })
	b.see(func(o *observer) {
		if !o.nodes[b.Nodes[0]].Schedulable {
			b.t.Error("a repeated action acted twice")
		}
	})
}

func checkCordon(b *bench) {
	for _, id := range b.Nodes[1:] {
		b.mustDo(autoheal.Action{Verb: autoheal.Cordon, Target: autoheal.NodeRef(id)})
	}
	for _, name := range []string{"one", "two", "three"} {
		if id := b.submit(b.Service(name)); b.nodeOf(id) != b.Nodes[0] {
			b.t.Fatalf("%s was placed on the cordoned %s", name, b.nodeOf(id))
		}
	}
	b.mustDo(autoheal.Action{Verb: autoheal.Cordon, Target: autoheal.NodeRef(b.Nodes[0])})
	held := b.submitOnly(b.Service("held"))
	b.await("a reason for waiting", func(o *observer) bool {
		w := o.current(held)
		return w != nil && w.State == autoheal.Pending && w.Detail != ""
	})
	b.see(func(o *observer) {
		if w := o.works[attempt{held, 1}]; !strings.Contains(w.Detail, "cordoned") {
			b.t.Errorf("the reason does not say why: %q", w.Detail)
		}
		for k, w := range o.works {
			if k.id != held && w.State != autoheal.Running {
				b.t.Errorf("%s is %s: a cordon kills nothing", k.id, w.State)
			}
		}
	})
	b.mustDo(autoheal.Action{Verb: autoheal.Uncordon, Target: autoheal.NodeRef(b.Nodes[1])})
	b.await("it runs once there is a place", func(o *observer) bool { return o.in(held, 1, autoheal.Running) })
	if got := b.nodeOf(held); got != b.Nodes[1] {
		b.t.Errorf("placed on %s, want %s", got, b.Nodes[1])
	}
}

func checkMarks(b *bench) {
	id := b.Nodes[0]
	cordon := func(verb autoheal.Verb, actor string) {
		b.mustDo(autoheal.Action{Verb: verb, Target: autoheal.NodeRef(id), Actor: actor, Reason: "by " + actor})
	}
	cordon(autoheal.Cordon, "ann")
	cordon(autoheal.Cordon, autoheal.ActorEngine)
	b.await("both marks", func(o *observer) bool {
		n := o.nodes[id]
		return n.MarkedBy("ann") != nil && n.MarkedBy(autoheal.ByAutoheal) != nil && n.MarkedBy("ann").Reason == "by ann"
	})
	cordon(autoheal.Uncordon, autoheal.ActorEngine)
	b.await("the engine's mark gone", func(o *observer) bool { return o.nodes[id].MarkedBy(autoheal.ByAutoheal) == nil })
	b.see(func(o *observer) {
		if n := o.nodes[id]; n.MarkedBy("ann") == nil || n.Schedulable {
			b.t.Error("the engine removed a person's mark")
		}
	})
	cordon(autoheal.Cordon, autoheal.ActorEngine)
	cordon(autoheal.Uncordon, "bob")
	b.await("a person removes any mark", func(o *observer) bool { return len(o.nodes[id].Marks) == 0 && o.nodes[id].Schedulable })
}

func checkQuarantine(b *bench) {
	b.need("GPUs", b.GPUs >= 2 && b.Cluster.Capabilities().GPUQuarantine)
	var gpu autoheal.Ref
	b.see(func(o *observer) {
		gpu = autoheal.Ref{Kind: autoheal.RefGPU, ID: string(o.nodes[b.Nodes[0]].GPUs[0].UUID), Generation: o.nodes[b.Nodes[0]].BootID}
	})
	b.mustDo(autoheal.Action{Verb: autoheal.QuarantineGPU, Target: gpu})
	b.await("the mark on the GPU", func(o *observer) bool { return o.nodes[b.Nodes[0]].GPUs[0].Quarantined != nil })
	for _, id := range b.Nodes[1:] {
		b.mustDo(autoheal.Action{Verb: autoheal.Cordon, Target: autoheal.NodeRef(id)})
	}
	all := b.Service("all")
	all.GPUs = b.GPUs
	id := b.submitOnly(all)
	b.await("a reason for waiting", func(o *observer) bool { w := o.current(id); return w != nil && w.Detail != "" })
	fits := b.Service("fits")
	fits.GPUs = b.GPUs - 1
	on := b.submit(fits)
	b.see(func(o *observer) {
		w := o.current(on)
		if len(w.GPUs) != b.GPUs-1 || slices.Contains(w.GPUs, autoheal.GPUID(gpu.ID)) {
			b.t.Errorf("it was given %v", w.GPUs)
		}
	})
	b.mustDo(autoheal.Action{Verb: autoheal.Stop, Target: autoheal.WorkloadRef(on), Params: autoheal.ActionParams{Final: true}})
	b.mustDo(autoheal.Action{Verb: autoheal.ReleaseGPU, Target: gpu})
	b.await("all GPUs in use", func(o *observer) bool { return o.in(id, 1, autoheal.Running) })
}

func checkSubmit(b *bench) {
	b.need("submit workloads", b.Workloads != nil)
	s := b.Service("twice")
	s.Env = map[string]string{"SECRET": "value"}
	first, err := b.Workloads.Submit(b.t.Context(), "cmd-7/1", s)
	if err != nil {
		b.t.Fatal(err)
	}
	again, err := b.Workloads.Submit(b.t.Context(), "cmd-7/1", s)
	if err != nil || again != first {
		b.t.Errorf("the same submit made %s (%v), want %s", again, err, first)
	}
	other := s
	other.MemoryMB += 7
	if _, err := b.Workloads.Submit(b.t.Context(), "cmd-7/1", other); autoheal.KindOf(err) != autoheal.ErrConflict {
		b.t.Errorf("another spec under the same ID: %v, want a conflict", err)
	}
	b.await("it runs", func(o *observer) bool { return o.in(first, 1, autoheal.Running) })
	got, err := b.Workloads.Spec(b.t.Context(), first)
	if err != nil || got.Env["SECRET"] != "value" || got.Image != s.Image {
		b.t.Errorf("spec %+v (%v)", got, err)
	}
	lineage, err := b.Workloads.Lineage(b.t.Context(), first)
	if err != nil || len(lineage) != 1 || lineage[0].Attempt != 1 {
		b.t.Errorf("lineage %+v (%v)", lineage, err)
	}
	if _, err := b.Workloads.Spec(b.t.Context(), "wl-none"); autoheal.KindOf(err) != autoheal.ErrNotFound {
		b.t.Errorf("spec of nothing: %v", err)
	}
}

func checkSubmitInvalid(b *bench) {
	b.need("submit workloads", b.Workloads != nil)
	high := 101
	for key, spoil := range map[string]func(*autoheal.Spec){
		"name":                      func(s *autoheal.Spec) { s.Name = "../etc" },
		"priority":                  func(s *autoheal.Spec) { s.Priority = &high },
		"gpus":                      func(s *autoheal.Spec) { s.GPUs = -1 },
		"memoryMb":                  func(s *autoheal.Spec) { s.MemoryMB = -1 },
		"image":                     func(s *autoheal.Spec) { s.Image = "" },
		autoheal.LabelGang:          func(s *autoheal.Spec) { *s = with(*s, autoheal.LabelGang, "g") },
		autoheal.LabelPrefix + "no": func(s *autoheal.Spec) { *s = with(*s, autoheal.LabelPrefix+"no", "x") },
		autoheal.LabelReplicas: func(s *autoheal.Spec) {
			*s = with(*s, autoheal.LabelReplicas, "2", autoheal.LabelAtMostOnce, "true")
		},
	} {
		s := b.Service("ok")
		spoil(&s)
		_, err := b.Workloads.Submit(b.t.Context(), autoheal.ActionID("cmd-8/"+key), s)
		if autoheal.KindOf(err) != autoheal.ErrInvalid || !strings.Contains(err.Error(), key) {
			b.t.Errorf("%s: %v, want invalid with the key named", key, err)
		}
	}
}

func checkPending(b *bench) {
	s := b.Service("huge")
	s.MemoryMB = 1 << 29
	id := b.submitOnly(s)
	b.await("a reason", func(o *observer) bool {
		w := o.current(id)
		return w != nil && w.State == autoheal.Pending && strings.Contains(w.Detail, "memory")
	})
	b.mustDo(autoheal.Action{Verb: autoheal.Stop, Target: autoheal.WorkloadRef(id), Params: autoheal.ActionParams{Final: true}})
	b.await("it is cancelled", func(o *observer) bool { return o.in(id, 1, autoheal.Cancelled) })
}

func checkNoRestart(b *bench) {
	b.need("crash a workload", b.Crash != nil)
	id := b.submit(b.Service("crashes"))
	b.Crash(id, 1)
	b.await("the crash", func(o *observer) bool { return o.in(id, 1, autoheal.Failed) })
	b.see(func(o *observer) {
		w := o.works[attempt{id, 1}]
		if w.Exit == nil || !w.Exit.OwnFault() || w.Exit.Code != 3 || w.EndedAt.IsZero() {
			b.t.Errorf("exit %+v, ended %v", w.Exit, w.EndedAt)
		}
	})
	b.quietly("no attempt is made without being asked for", 20*time.Second, func(o *observer) bool { return o.current(id).Attempt == 1 })
}
