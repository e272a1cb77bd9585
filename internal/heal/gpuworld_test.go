package heal

import (
	"maps"
	"slices"
	"strings"
	"time"

	"autoheal.dev/autoheal"
)

// gpuCommand runs the commands of transcripts that are about GPUs; false = it is none.
func (w *world) gpuCommand(name string, words []string, kv map[string]string) bool {
	switch name {
	case "xid": // xid 79 on=n1 gpu=0 [action=reboot_node] [failure=gpu_failure] [soft=1] [ago=0s]: the kernel of a node says so
		w.xid(words[0], kv)
	case "writes": // writes wl-1 nvidia/xid/79 [action=…]: a workload writes something that looks like it
		a := w.current(words[0])
		w.send(autoheal.Event{Kind: autoheal.EventSignal, Signal: &autoheal.Signal{
			Rule: words[1], Source: "workload", Failure: autoheal.FailureGPU, Subject: a.Ref(), At: w.now, SeenAt: w.now, Count: 1,
			Action: autoheal.Advice(kv["action"]), Excerpt: "it says so itself",
		}, At: w.now, SeenAt: w.now})
	case "gpu": // gpu n1 0 health=failed [action=reset_gpu] [uuid=GPU-new] [serial=…] [driver=…] [firmware=…] [why=…]: the node reports it so
		w.gpuReports(words[0], atoi(words[1], 0), kv)
	case "condition": // condition n1 driver_hung=2_probes_hung: the node says so; empty = no more
		n := w.nodes[autoheal.NodeID(words[0])]
		n.Conditions = cloneConditions(n.Conditions)
		for k, v := range kv {
			if n.Conditions[k] = strings.ReplaceAll(v, "_", " "); v == "" {
				delete(n.Conditions, k)
			}
		}
		w.send(w.nodeEvent(n))
	case "job": // job n1 passed|failed [why=…]: the job that runs on the node ends
		n := w.nodes[autoheal.NodeID(words[0])]
		n.Jobs = slices.Clone(n.Jobs)
		j := &n.Jobs[len(n.Jobs)-1]
		j.State, j.Detail, j.EndedAt = autoheal.JobState(words[1]), strings.ReplaceAll(kv["why"], "_", " "), w.now
		w.send(w.nodeEvent(n))
	case "boots": // boots n1 [as=b2] [still=broken]: it is back as another boot, with nothing of before
		w.boots(words[0], kv)
	case "caps": // caps n1 without=test,reboot: its agent cannot do that
		n := w.nodes[autoheal.NodeID(words[0])]
		n.Caps = slices.DeleteFunc(autoheal.Verbs(), func(v autoheal.Verb) bool { return slices.Contains(strings.Split(kv["without"], ","), string(v)) })
		w.send(w.nodeEvent(n))
	case "ticket": // ticket: the text of the last alert
		if as := w.core.d.Alerts; len(as) > 0 {
			w.out.WriteString(as[len(as)-1].Message + "\n")
		}
	default:
		return false
	}
	return true
}

func cloneConditions(m map[string]string) map[string]string {
	out := map[string]string{}
	maps.Copy(out, m)
	return out
}

func (w *world) xid(code string, kv map[string]string) {
	n := w.nodes[autoheal.NodeID(kv["on"])]
	g := n.GPUs[atoi(kv["gpu"], 0)]
	s := &autoheal.Signal{
		Rule: "nvidia/xid/" + code, Source: "kmsg", Failure: autoheal.FailureGPU, Action: autoheal.Advice(kv["action"]), Conclusive: kv["soft"] == "",
		Subject: autoheal.Ref{Kind: autoheal.RefGPU, ID: string(g.UUID), Generation: n.BootID}, Also: []autoheal.Ref{autoheal.NodeRef(n.ID)},
		At: w.now, SeenAt: w.now, Count: 1, TTL: time.Hour, Excerpt: "NVRM: Xid (PCI:0000:05:00): " + code + ", " + strings.ReplaceAll(kv["says"], "_", " "),
	}
	if kv["failure"] != "" {
		s.Failure = autoheal.Failure(kv["failure"])
	}
	if kv["ago"] != "" {
		s.At = w.now.Add(-mustDuration(w.t, kv["ago"]))
	}
	w.send(autoheal.Event{Kind: autoheal.EventSignal, Signal: s, At: s.At, SeenAt: w.now})
}

func (w *world) gpuReports(id string, index int, kv map[string]string) {
	n := w.nodes[autoheal.NodeID(id)]
	n.GPUs, n.Conditions = slices.Clone(n.GPUs), cloneConditions(n.Conditions)
	g := &n.GPUs[index]
	set := func(to *string, key string) {
		if v, ok := kv[key]; ok {
			*to = strings.ReplaceAll(v, "_", " ")
		}
	}
	if v, ok := kv["uuid"]; ok {
		g.UUID, g.Quarantined = autoheal.GPUID(v), nil
	}
	if v, ok := kv["health"]; ok {
		g.Health, g.Action = autoheal.Health(v), autoheal.Advice(kv["action"])
	}
	set(&g.Serial, "serial")
	set(&g.Driver, "driver")
	set(&g.Firmware, "firmware")
	set(&g.PCI, "pci")
	if why, ok := kv["why"]; ok {
		n.Conditions["gpu:"+string(g.UUID)] = strings.ReplaceAll(why, "_", " ")
	}
	w.send(w.nodeEvent(n))
}

func (w *world) boots(id string, kv map[string]string) {
	n := w.nodes[autoheal.NodeID(id)]
	n.BootID = n.BootID + "+"
	if kv["as"] != "" {
		n.BootID = kv["as"]
	}
	n.Link, n.LinkSince, n.LastSeen, n.Ready, n.Jobs = autoheal.LinkUp, w.now, w.now, true, nil
	if kv["still"] == "" {
		n.Conditions = nil
	}
	n.GPUs = slices.Clone(n.GPUs)
	for g := range n.GPUs {
		if kv["still"] == "" {
			n.GPUs[g].Health, n.GPUs[g].Action = autoheal.HealthOK, ""
		}
	}
	w.send(w.nodeEvent(n))
}

// carryOutGPU does what an action on a GPU, or a repair of a node, asks; nil = it is none.
func (w *world) carryOutGPU(a autoheal.Action) []autoheal.Event {
	switch a.Verb {
	case autoheal.QuarantineGPU, autoheal.ReleaseGPU:
		for _, id := range sortedKeys(w.nodes) {
			n := w.nodes[id]
			n.GPUs = slices.Clone(n.GPUs)
			for g := range n.GPUs {
				if string(n.GPUs[g].UUID) != a.Target.ID {
					continue
				}
				n.GPUs[g].Quarantined = nil
				if a.Verb == autoheal.QuarantineGPU {
					n.GPUs[g].Quarantined = &autoheal.Mark{By: markOwner(a.Actor), Reason: a.Reason, Incident: a.Incident, At: w.now}
				}
				return []autoheal.Event{w.nodeEvent(n)}
			}
		}
	case autoheal.ResetGPU, autoheal.Test:
		n := w.nodes[autoheal.NodeID(a.Target.ID)]
		if a.Target.Kind == autoheal.RefGPU {
			n = w.nodes[w.core.v.gpuAt[autoheal.GPUID(a.Target.ID)]]
		}
		n.Jobs = append(slices.Clone(n.Jobs), autoheal.Job{Action: a.ID, Verb: a.Verb, Target: a.Target, State: autoheal.JobRunning, StartedAt: w.now})
		return []autoheal.Event{w.nodeEvent(n)}
	}
	return nil
}

// freeGPUs are as many GPUs of a node as an attempt asks for and may have; false = there are not enough.
func (w *world) freeGPUs(n *autoheal.Node, need int, avoid []autoheal.GPUID) ([]autoheal.GPUID, bool) {
	taken := map[autoheal.GPUID]bool{}
	for _, attempts := range w.work {
		for _, a := range attempts {
			for _, g := range a.GPUs {
				taken[g] = taken[g] || live(a)
			}
		}
	}
	var out []autoheal.GPUID
	for _, g := range n.GPUs {
		if len(out) < need && !taken[g.UUID] && g.Quarantined == nil && g.Health == autoheal.HealthOK && !slices.Contains(avoid, g.UUID) {
			out = append(out, g.UUID)
		}
	}
	return out, len(out) == need
}

// gpuVerdict is what the kernel's log says of an end: exit … gpu=GPU-n1-0 says=nvidia/xid/94 action=reset_gpu.
func gpuVerdict(kv map[string]string) *autoheal.Verdict {
	return &autoheal.Verdict{
		Failure: autoheal.FailureGPU, Code: kv["says"], Action: autoheal.Advice(kv["action"]), Confidence: 0.95,
		Subject: &autoheal.Ref{Kind: autoheal.RefGPU, ID: kv["gpu"]}, Because: []string{"line 1: " + kv["says"]},
	}
}
