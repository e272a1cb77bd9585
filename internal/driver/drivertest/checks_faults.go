package drivertest

import (
	"context"
	"time"

	"autoheal.dev/autoheal"
)

func checkSilence(b *bench) {
	b.need("cut a node off and heal it", b.CutNode != nil && b.HealNode != nil)
	id := b.submit(b.Service("stays"))
	on := b.nodeOf(id)
	b.CutNode(on)
	b.await("the node is silent", func(o *observer) bool {
		n := o.nodes[on]
		return n.Link == autoheal.LinkSilent && !n.Ready && n.LastSeen.Before(n.LinkSince)
	})
	b.see(func(o *observer) {
		for _, other := range b.Nodes {
			if n := o.nodes[other]; other != on && n.Link != autoheal.LinkUp {
				b.t.Errorf("%s is %s too", other, n.Link)
			}
		}
	})
	b.quietly("silence ends no workload", 10*time.Second, func(o *observer) bool { return o.in(id, 1, autoheal.Running) })
	if next := b.submit(b.Service("elsewhere")); b.nodeOf(next) == on {
		b.t.Error("something was placed on a silent node")
	}
	b.HealNode(on)
	b.await("it is back", func(o *observer) bool { n := o.nodes[on]; return n.Link == autoheal.LinkUp && n.Ready })
	b.quietly("what ran there runs", 10*time.Second, func(o *observer) bool { return o.in(id, 1, autoheal.Running) })
}

func checkKilled(b *bench) {
	b.need("kill a node and heal it", b.KillNode != nil && b.HealNode != nil)
	id := b.submit(b.Service("moved"))
	on := b.nodeOf(id)
	var boot string
	b.see(func(o *observer) { boot = o.nodes[on].BootID })
	b.KillNode(on)
	b.await("the node is silent", func(o *observer) bool { return o.nodes[on].Link == autoheal.LinkSilent })
	b.mustDo(start(id, 2, autoheal.ActionParams{Proof: autoheal.ProofSelfStop, Avoid: []autoheal.NodeID{on}}))
	b.await("it runs elsewhere", func(o *observer) bool { return o.in(id, 2, autoheal.Running) && o.current(id).Node != on })
	b.HealNode(on)
	b.await("the node is back in a new boot", func(o *observer) bool {
		n := o.nodes[on]
		return n.Link == autoheal.LinkUp && n.Ready && n.BootID != boot
	})
	b.quietly("the old attempt stays ended", 20*time.Second, func(o *observer) bool {
		w := o.works[attempt{id, 1}]
		return (w == nil || w.State.Ended()) && o.in(id, 2, autoheal.Running)
	})
	if b.RunningCopies != nil {
		if n := b.RunningCopies(id); n != 1 {
			b.t.Errorf("%d copies run", n)
		}
	}
}

func checkLostAnswer(b *bench) {
	b.need("lose answers", b.LoseAnswer != nil)
	id := b.submit(b.Service("stop-me"))
	b.LoseAnswer(b.nodeOf(id), autoheal.Stop)
	r := b.do(stop(id, 1, autoheal.ActionParams{}))
	if r.Outcome != autoheal.OutcomeUnknown || r.Err.Kind != autoheal.ErrTimeout {
		b.t.Errorf("an answer was lost: %s %+v, want unknown and timeout", r.Outcome, r.Err)
	}
	b.await("what happened is observed", func(o *observer) bool { return o.works[attempt{id, 1}].State.Ended() })
	b.mustDo(stop(id, 1, autoheal.ActionParams{}))
}

func checkLostStart(b *bench) {
	b.need("lose answers", b.LoseAnswer != nil && b.Started != nil)
	for _, n := range b.Nodes {
		b.LoseAnswer(n, autoheal.Start)
	}
	id := b.submit(b.Job("once"))
	b.quietly("it stays at one attempt", 20*time.Second, func(o *observer) bool { return o.in(id, 1, autoheal.Running) })
	if got := b.Started(id); got[1] != 1 || len(got) != 1 {
		b.t.Errorf("began %v, want attempt 1 once", got)
	}
}

func checkNotSent(b *bench) {
	b.need("lose requests", b.LoseRequest != nil)
	id := b.submit(b.Service("unsent"))
	b.LoseRequest(b.nodeOf(id), autoheal.Stop)
	a := stop(id, 1, autoheal.ActionParams{})
	a.ID = "inc-000003/1"
	r := b.do(a)
	if r.Outcome != autoheal.OutcomeNotSent {
		b.t.Fatalf("nothing was sent: %s %+v", r.Outcome, r.Err)
	}
	b.quietly("nothing happened", 5*time.Second, func(o *observer) bool { return o.in(id, 1, autoheal.Running) })
	b.mustDo(a) // the same ID may be sent again
	b.await("it ends", func(o *observer) bool { return o.works[attempt{id, 1}].State.Ended() })
	for _, n := range b.Nodes {
		b.LoseRequest(n, autoheal.Start)
	}
	job := b.submit(b.Job("sent-again"))
	if b.Started != nil {
		if got := b.Started(job); got[1] != 1 {
			b.t.Errorf("began %v", got)
		}
	}
}

func checkLost(b *bench) {
	b.need("cut the observer off", b.CutObserver != nil && b.MendObserver != nil)
	id := b.submit(b.Service("goes-on"))
	var before int
	b.see(func(o *observer) { before = len(o.events) })
	b.CutObserver()
	b.await("lost", func(o *observer) bool { return !o.synced })
	b.quietly("nothing is said while nothing can be seen", 20*time.Second, func(o *observer) bool {
		return !o.synced && len(o.nodes) == 0 && len(o.works) == 0
	})
	b.MendObserver()
	b.await("a whole listing and synced", func(o *observer) bool {
		return o.synced && len(o.nodes) == len(b.Nodes) && o.in(id, 1, autoheal.Running)
	})
	b.see(func(o *observer) {
		var order []autoheal.EventKind
		for _, e := range o.events[before:] {
			if len(order) == 0 || order[len(order)-1] != e.Kind {
				order = append(order, e.Kind)
			}
			if e.Kind == autoheal.EventSynced {
				break
			}
		}
		want := []autoheal.EventKind{autoheal.EventLost, autoheal.EventNode, autoheal.EventWorkload, autoheal.EventSynced}
		for len(order) > 0 && order[0] != autoheal.EventLost {
			order = order[1:]
		}
		if len(order) != len(want) {
			b.t.Fatalf("the stream went %v, want %v", order, want)
		}
		for i := range want {
			if order[i] != want[i] {
				b.t.Fatalf("the stream went %v, want %v", order, want)
			}
		}
	})
	b.await("the nodes are up again", func(o *observer) bool {
		for _, n := range o.nodes {
			if n.Link != autoheal.LinkUp {
				return false
			}
		}
		return true
	})
}

func checkRefresh(b *bench) {
	id := b.submit(b.Service("seen"))
	on := b.nodeOf(id)
	for _, target := range []autoheal.Ref{autoheal.NodeRef(on), autoheal.WorkloadRef(id)} {
		var before int
		b.see(func(o *observer) { before = len(o.events) })
		b.mustDo(autoheal.Action{Verb: autoheal.Refresh, Target: target})
		b.await("its workload is told anew after a refresh of "+target.String(), func(o *observer) bool {
			for _, e := range o.events[before:] {
				if e.Kind == autoheal.EventWorkload && e.Workload.ID == id {
					return true
				}
			}
			return false
		})
	}
	b.mustRefuse(autoheal.Action{Verb: autoheal.Refresh, Target: autoheal.NodeRef("no-such-node")}, autoheal.ErrNotFound)
}

func checkReads(b *bench) {
	id := b.submit(b.Service("talks"))
	for range b.Cluster.Metrics(context.Background(), autoheal.MetricQuery{Metric: "no_such_metric"}) {
		b.t.Error("an unknown metric has a series")
	}
	up := 0
	for s, err := range b.Cluster.Metrics(context.Background(), autoheal.MetricQuery{Metric: "node_up"}) {
		if err != nil || len(s.Points) == 0 || s.Points[len(s.Points)-1].Value != 1 {
			b.t.Errorf("node_up %+v (%v)", s, err)
		}
		up++
	}
	if up != len(b.Nodes) {
		b.t.Errorf("node_up has %d series for %d nodes", up, len(b.Nodes))
	}
	var last time.Time
	for l, err := range b.Cluster.Logs(context.Background(), autoheal.LogQuery{Workload: id, Limit: 1}) {
		if err != nil {
			b.t.Fatal(err)
		}
		if l.Workload != id || l.At.Before(last) {
			b.t.Errorf("line %+v", l)
		}
		last = l.At
	}
}
