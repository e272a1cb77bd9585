package heal

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/detect"
	"autoheal.dev/autoheal/internal/journal"
)

// What must hold after every step of a random world.

func (w *rWorld) checkStep(ready Ready, quiet bool) {
	for _, err := range ready.Errors {
		w.fail("illegal: %v", err)
	}
	intents := map[autoheal.ActionID]bool{}
	for _, r := range ready.Records {
		if p, ok := r.Data.(journal.Intent); ok {
			intents[p.Action.ID] = true
		}
	}
	for _, a := range ready.Actions {
		if !intents[a.ID] {
			w.fail("%s %s left without an intent", a.ID, a.Verb)
		}
		w.checkAction(a)
	}
	w.checkHolds()
	w.checkBusy(ready, quiet)
	if w.steps%25 == 0 {
		w.checkState()
	}
	if w.steps%4 == 0 {
		w.checkWakeUps()
	}
}

func (w *rWorld) checkAction(a autoheal.Action) {
	c := w.core
	if a.Verb == autoheal.Refresh || a.Actor != autoheal.ActorEngine {
		return
	}
	if !c.v.synced {
		w.fail("%s %s left while the cluster's state was not known", a.ID, a.Verb)
	}
	if !c.pol.Enabled {
		w.fail("%s %s left though autoHeal.enabled is false", a.ID, a.Verb)
	}
	if p := c.d.Pauses[""]; p != nil && active(p.Until, w.now) {
		w.fail("%s %s left while the healer was paused", a.ID, a.Verb)
	}
	if v := c.d.Vetoes[autoheal.Ref{Kind: a.Target.Kind, ID: a.Target.ID}.String()]; v != nil && active(v.Until, w.now) {
		w.fail("%s %s of %s left in spite of a veto", a.ID, a.Verb, a.Target)
	}
	if a.Verb == autoheal.Uncordon && c.d.Marks[autoheal.NodeRef(autoheal.NodeID(a.Target.ID)).String()] == nil {
		w.fail("%s lifts a cordon of %s that is not ours", a.ID, a.Target)
	}
}

// checkHolds: whatever is held says what ends it.
func (w *rWorld) checkHolds() {
	for id := range w.core.ix.openIDs {
		i := w.core.d.Incidents[id]
		holds := []*autoheal.Held{i.Held}
		for _, x := range i.Order {
			holds = append(holds, i.Recoveries[x].Held)
		}
		for _, h := range holds {
			if h != nil && h.Until.IsZero() && h.On == "" {
				w.fail("%s is held (%s) by nothing that could end", id, h.Reason)
			}
		}
	}
}

// checkBusy: a wake-up without input that decides nothing may happen, but not again and again within a moment.
func (w *rWorld) checkBusy(ready Ready, quiet bool) {
	if !quiet || len(ready.Records)+len(ready.Actions) > 0 || w.now.Sub(w.idleAt) > time.Second {
		w.idle, w.idleAt = 0, w.now
		return
	}
	if w.idle++; w.idle > 30 {
		w.fail("the core wakes again and again and does nothing; next at +%s", ready.WakeAt.Sub(w.now))
	}
}

// checkState: what the journal says is what the core holds, and the index is what the state gives.
func (w *rWorld) checkState() {
	a, _ := json.Marshal(w.shadow)
	b, _ := json.Marshal(w.core.d)
	if !bytes.Equal(a, b) {
		w.fail("folding the journal does not give the core's state: %s", diffAround(a, b))
	}
	fresh := newIndex()
	fresh.rebuild(w.core.d)
	if x, y := indexText(fresh), indexText(w.core.ix); x != y {
		w.fail("the index is not what a restart would give:\n restart %s\n now     %s", x, y)
	}
	w.checkSilences()
	w.checkWell()
}

// checkWell asks the detectors of everything that a full listing passes by.
func (w *rWorld) checkWell() {
	c := w.core
	for id, x := range c.v.cur {
		if well(x) == c.v.unwell[id] {
			w.fail("%s is well: %v, noticed: %v", id, well(x), c.v.unwell[id])
		}
		for f := range c.findings(detect.Change{Workload: x}) {
			if well(x) && !f.Withdrawn {
				w.fail("%s counts as well, and %s claims: %s", id, f.Because, f.Cause)
			}
		}
	}
}

// checkSilences counts the silent nodes one by one.
func (w *rWorld) checkSilences() {
	c := w.core
	unexplained, dark := 0, map[autoheal.Domain]bool{}
	for id := range c.v.silent {
		for _, d := range c.v.nodes[id].Domains {
			dark[d] = !slices.Contains(slices.Collect(maps.Values(c.v.domain[d])), false)
		}
		if i := c.onNode(id); c.fresh(c.v.nodes[id]) && (i == nil || i.Subject.Kind != autoheal.RefDomain) {
			unexplained++
		}
	}
	maps.DeleteFunc(dark, func(_ autoheal.Domain, is bool) bool { return !is })
	if n := c.unexplained(); n != unexplained || !maps.Equal(dark, c.v.dark) {
		w.fail("%d silent nodes are unexplained, counted %d; dark are %v, kept %v", unexplained, n, dark, c.v.dark)
	}
}

func diffAround(a, b []byte) string {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	cut := func(x []byte) []byte { return x[max(0, min(len(x), n-200)):min(len(x), n+200)] }
	return fmt.Sprintf("\n fold %s\n core %s", cut(a), cut(b))
}

func indexText(x *index) string {
	var out []string
	for k, v := range x.open {
		out = append(out, fmt.Sprint("open ", k, v))
	}
	for k, v := range x.last {
		out = append(out, fmt.Sprint("last ", k, v))
	}
	for k, v := range x.recOf {
		out = append(out, fmt.Sprint("rec ", k, v))
	}
	for k, v := range x.starts {
		out = append(out, fmt.Sprint("start ", k, v.ID))
	}
	for k, v := range x.lastOf {
		out = append(out, fmt.Sprint("lastOf ", k, v))
	}
	slices.Sort(out)
	return strings.Join(out, "; ")
}

// checkWakeUps looks at everything again, now: if that decides anything, something was not woken that should have been.
// That a wait has another reason now is no decision.
func (w *rWorld) checkWakeUps() {
	w.core.all = true
	ready := w.core.Step(Input{Now: w.now})
	life := &w.lives[len(w.lives)-1]
	life.inputs = append(life.inputs, Input{Now: w.now, Late: -1}) // marks an examination
	life.digest = append(life.digest, digest(ready))
	w.keep(ready)
	var text []string
	for _, r := range ready.Records {
		if r.Type != journal.TypeHeld && r.Type != journal.TypePostMortem {
			text = append(text, strings.TrimSpace(fmt.Sprintf("%s %s %s", r.Incident, r.Type, describe(r))))
		}
	}
	if len(text) > 0 {
		w.fail("a wake-up was lost: looking at everything again decides\n  %s", strings.Join(text, "\n  "))
	}
}

// checkReplay feeds every life its inputs again: the same must come out.
func (w *rWorld) checkReplay() {
	for n, l := range w.lives {
		core := NewCore(Life{Epoch: w.epochOf(n), Version: "test", ConfigHash: "c", BootID: "b", Cluster: "default"}, l.pol)
		for _, r := range w.log[:l.from] {
			if err := core.Restore(r); err != nil {
				w.fail("restore: %v", err)
			}
		}
		for k, in := range l.inputs {
			if in.Late < 0 {
				core.all, in.Late = true, 0
			}
			if got := digest(core.Step(in)); got != l.digest[k] {
				w.fail("the same input gave something else:\n %s\n %s", l.digest[k], got)
			}
		}
	}
}

func (w *rWorld) epochOf(n int) uint64 {
	for _, r := range w.log[w.lives[n].from:] {
		return r.Epoch
	}
	return uint64(w.life)
}
