package heal

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"autoheal.dev/autoheal"
)

type seeded struct{ r *rand.Rand }

func (s seeded) pick(n int) int { return s.r.IntN(n) }

type drawn struct{ t *rapid.T }

func (d drawn) pick(n int) int { return rapid.IntRange(0, n-1).Draw(d.t, "") }

// TestRandomWorlds lives through many worlds with fixed seeds: whatever happens, the rules hold (see checkStep and
// checkEnd). A failure prints the end of its story; HEAL_SEED=N runs one seed alone and prints all of
// it; with HEAL_WORLDS=M it runs M seeds from N on.
func TestRandomWorlds(t *testing.T) {
	worlds, ops := uint64(120), 400
	if testing.Short() {
		worlds = 30
	}
	if underRace {
		worlds = 10
	}
	first := uint64(1)
	var all bool
	if s := os.Getenv("HEAL_SEED"); s != "" {
		if _, err := fmt.Sscan(s, &first); err != nil {
			t.Fatal(err)
		}
		worlds, all = 1, os.Getenv("HEAL_WORLDS") == ""
	}
	if s := os.Getenv("HEAL_WORLDS"); s != "" {
		if _, err := fmt.Sscan(s, &worlds); err != nil {
			t.Fatal(err)
		}
	}
	failed := 0
	for seed := first; seed < first+worlds && failed < 20; seed++ {
		story, err := liveThrough(seeded{rand.New(rand.NewPCG(seed, 7))}, ops)
		if err != "" {
			failed++
			if n := len(story); n > 60 && !all {
				story = story[n-60:]
			}
			t.Errorf("seed %d: %s\n%s", seed, err, strings.Join(story, "\n"))
		} else if all {
			t.Log(strings.Join(story, "\n"))
		}
	}
}

// TestRandomWorldsShrink does the same with drawn worlds, which shrink to a short story when a rule is broken. It draws
// the same worlds every time; -rapid.seed=N draws others.
func TestRandomWorldsShrink(t *testing.T) {
	if f := flag.Lookup("rapid.seed"); f.Value.String() == "0" {
		if err := f.Value.Set("15"); err != nil {
			t.Fatal(err)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		if story, err := liveThrough(drawn{t}, 60); err != "" {
			t.Fatalf("%s\n%s", err, strings.Join(story, "\n"))
		}
	})
}

// liveThrough lets a world run and returns its story and what is wrong with it.
func liveThrough(d dice, ops int) (story []string, wrong string) {
	t0 := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	var w *rWorld
	trace := func(format string, args ...any) {
		at := t0
		if w != nil {
			at = w.now
		}
		story = append(story, fmt.Sprintf("+%.2fs %s", at.Sub(t0).Seconds(), fmt.Sprintf(format, args...)))
	}
	defer func() {
		switch f := recover().(type) {
		case nil:
		case fault:
			wrong = f.text
			if w.core != nil {
				w.dump()
			}
		default:
			panic(f)
		}
	}()
	w = newRandomWorld(d, trace)
	for range ops {
		w.luck()
	}
	w.endWell()
	w.checkEnd()
	w.checkReplay()
	return story, ""
}

// luck lets one thing happen, and some time pass.
func (w *rWorld) luck() {
	n := w.someNode()
	switch w.d.pick(26) {
	case 0, 1:
		w.trace("truth: %s is cut off", n.said.ID)
		w.cut(n)
	case 2, 3, 4:
		w.trace("truth: %s can be reached", n.said.ID)
		w.mend(n)
	case 5:
		w.trace("truth: %s loses its power", n.said.ID)
		w.off(n)
	case 6, 7:
		w.trace("truth: %s has power", n.said.ID)
		w.on(n)
	case 8:
		w.rackFails()
	case 9:
		w.someCopyEnds()
	case 10:
		w.lose()
	case 11:
		w.after(0, w.crash)
	case 12:
		w.stall()
	case 13, 14, 15:
		w.person()
	case 16:
		w.otherPolicy()
	}
	d := w.upTo(5 * time.Second)
	switch w.d.pick(8) {
	case 0, 1:
		d = w.upTo(2 * time.Minute)
	case 2:
		d = w.upTo(20 * time.Minute)
	}
	w.runTo(w.now.Add(d), true)
}

func (w *rWorld) someNode() *rNode {
	ids := sortedKeys(w.nodes)
	return w.nodes[ids[w.d.pick(len(ids))]]
}

func (w *rWorld) someWork() *rWork {
	ids := sortedKeys(w.works)
	return w.works[ids[w.d.pick(len(ids))]]
}

func (w *rWorld) rackFails() {
	rack := fmt.Sprintf("r%d", w.d.pick(2))
	w.trace("truth: rack %s is cut off", rack)
	for _, id := range sortedKeys(w.nodes) {
		if n := w.nodes[id]; n.said.Labels[autoheal.LabelRack] == rack {
			w.cut(n)
		}
	}
}

func (w *rWorld) someCopyEnds() {
	n := w.someNode()
	keys := sortedCopies(n.copies)
	if len(keys) == 0 {
		return
	}
	exits := []autoheal.Exit{
		{Code: 1, Reason: autoheal.ExitCrashed},
		{Code: 0, Reason: autoheal.ExitCompleted},
		{Code: -1, Reason: autoheal.ExitShimKilled},
		{Code: -1, Signal: "SIGKILL", OOM: autoheal.OOMHostGlobal, Reason: autoheal.ExitCrashed},
	}
	k, e := keys[w.d.pick(len(keys))], exits[w.d.pick(len(exits))]
	if w.works[k.id].cur().Gang != "" && e.Reason == autoheal.ExitCompleted {
		return // ranks complete together
	}
	w.end(n, n.copies[k], &e)
}

// stall: the healer's loop stands still while the world goes on.
func (w *rWorld) stall() {
	if w.core == nil {
		return
	}
	late := w.upTo(2 * time.Minute)
	w.trace("the healer stalls for %s", late)
	w.runTo(w.now.Add(late), false)
	if w.core != nil {
		w.step(late)
	}
}

func (w *rWorld) person() {
	if w.core == nil {
		return
	}
	c := autoheal.Command{Actor: "ann", Role: "operator"}
	n, x := w.someNode(), w.someWork()
	incidents := w.core.d.incidentIDs()
	if len(incidents) > 0 {
		c.Incident = incidents[len(incidents)-1-w.d.pick(min(3, len(incidents)))]
	}
	switch w.d.pick(14) {
	case 0:
		c.Verb, c.Target = autoheal.CommandVerb(autoheal.Cordon), autoheal.NodeRef(n.said.ID)
	case 1, 2:
		c.Verb, c.Target = autoheal.CommandVerb(autoheal.Uncordon), autoheal.NodeRef(n.said.ID)
	case 3:
		c.Verb, c.Target, c.Params.Final = autoheal.CommandVerb(autoheal.Stop), autoheal.WorkloadRef(x.id), true
		if w.chance(80) || x.cur().Gang != "" {
			return // rarely: it is for good
		}
	case 4:
		c.Verb = autoheal.CmdPauseHealer
		if w.chance(50) {
			c.Until = w.now.Add(w.upTo(10 * time.Minute))
		}
	case 5, 6:
		c.Verb = autoheal.CmdResumeHealer
	case 7:
		c.Verb, c.Target = autoheal.CmdVeto, autoheal.WorkloadRef(x.id)
		if w.chance(50) {
			c.Target = autoheal.NodeRef(n.said.ID)
		}
		if w.chance(50) {
			c.Until = w.now.Add(w.upTo(10 * time.Minute))
		}
	case 8:
		c.Verb, c.Target = autoheal.CmdUnveto, autoheal.WorkloadRef(x.id)
	case 9:
		c.Verb = autoheal.CmdRelease
	case 10:
		c.Verb = autoheal.CmdDismiss
		if w.chance(70) {
			return
		}
	case 11:
		if n.power {
			return
		}
		c.Verb, c.Target = autoheal.CmdFenceConfirm, autoheal.NodeRef(n.said.ID)
	case 12:
		c.Verb, c.Target = autoheal.CommandVerb(autoheal.Resume), autoheal.WorkloadRef(x.id)
	case 13:
		c.Verb = autoheal.CmdExamine
	}
	w.say(c)
}

func (w *rWorld) say(c autoheal.Command) {
	w.trace("ann: %s %s %s", c.Verb, c.Target.ID, c.Incident)
	w.inbox.Commands = append(w.inbox.Commands, c)
}

func (w *rWorld) otherPolicy() {
	keys := []string{"autoHeal.node.autoCordon", "autoHeal.node.autoMigrate", "autoHeal.enabled", "autoHeal.workload.oomAutoScale"}
	k := keys[w.d.pick(len(keys))]
	w.flags[k] = fmt.Sprint(w.chance(70))
	w.trace("config %s=%s", k, w.flags[k])
	w.applyPolicy()
}

func (w *rWorld) applyPolicy() {
	w.configure()
	w.inbox.Policy = &PolicyChange{Policy: w.pol, Hash: "c2", By: "ann"}
}

// endWell lets faults stop: machines come back (sometimes one stays dead), people take back what they forbade.
func (w *rWorld) endWell() {
	w.trace("--- faults stop")
	w.calm = true
	w.runTo(w.now.Add(2*time.Minute), true) // what was lost is listed again
	dead := w.chance(40)
	for _, id := range sortedKeys(w.nodes) {
		n := w.nodes[id]
		if dead {
			dead = false
			w.off(n)
			continue
		}
		w.on(n)
		w.mend(n)
	}
	clear(w.flags)
	w.applyPolicy()
	w.say(autoheal.Command{Actor: "ann", Role: "operator", Verb: autoheal.CmdResumeHealer})
	for _, ref := range sortedKeys(w.core.d.Vetoes) {
		k, id, _ := strings.Cut(ref, "/")
		w.say(autoheal.Command{Actor: "ann", Role: "operator", Verb: autoheal.CmdUnveto, Target: autoheal.Ref{Kind: autoheal.RefKind(k), ID: id}})
	}
	w.runTo(w.now.Add(2*time.Minute), true)
	for _, id := range sortedKeys(w.nodes) {
		if !w.nodes[id].power {
			w.say(autoheal.Command{Actor: "ann", Role: "operator", Verb: autoheal.CmdFenceConfirm, Target: autoheal.NodeRef(id)})
		}
	}
	if s := w.core.d.Storm; s != nil && !s.Released {
		w.say(autoheal.Command{Actor: "ann", Role: "operator", Verb: autoheal.CmdRelease, Incident: s.Incident})
	}
	w.runTo(w.now.Add(8*time.Hour), true)
}

// checkEnd: long after the last fault everything that can run runs, and whatever does not says why.
func (w *rWorld) checkEnd() {
	w.checkState()
	w.checkWakeUps()
	d := w.core.d
	for id := range w.core.ix.openIDs {
		i := d.Incidents[id]
		var why []string
		full := false
		for _, x := range i.Order {
			if rec := i.Recoveries[x]; rec.Step != autoheal.StepDone {
				if rec.Held != nil && rec.Held.Reason == autoheal.ReasonNoCapacity && w.noRoom(i, rec) {
					full = true
					continue
				}
				if r := d.Restarts[x]; rec.Class == autoheal.Critical && (rec.pausedByUs() || r != nil && r.Count > w.core.pol.Workload.MaxRestarts) {
					full = true // it is tried again now and then, for as long as it takes (behaviour E4)
					continue
				}
				why = append(why, fmt.Sprintf("%s %s %s%s", x, rec.Step, rec.Rung, heldText(rec.Held)))
			}
		}
		if len(why) > 0 || i.Open == 0 && !full {
			w.fail("%s (%s on %s) never ends: %s%s; %s", id, i.Kind, i.Subject, i.Phase, heldText(i.Held), strings.Join(why, ", "))
		}
	}
	for _, id := range sortedKeys(w.works) {
		w.checkRuns(w.works[id])
	}
	for _, id := range sortedKeys(w.nodes) {
		n := &w.nodes[id].said
		if n.Link != autoheal.LinkUp || n.MarkedBy(autoheal.ByAutoheal) == nil {
			continue
		}
		ref := autoheal.NodeRef(id).String()
		if _, open := w.core.ix.open[ref]; !open && !w.core.quarantined(w.core.d.Offenders[ref]) {
			w.fail("%s has answered for hours and is still cordoned by us", id)
		}
	}
}

// noRoom reports whether a recovery that says so really has no place to go.
func (w *rWorld) noRoom(i *incident, rec *recovery) bool {
	for _, id := range rec.Members { // the driver has it, with the wishes of its start
		if x := w.works[id]; x.cur().State == autoheal.Pending && w.fits(x.cur(), x.wishes[x.top]) == nil {
			return true
		}
	}
	_, no := w.core.fitAll(w.core.needs(rec, w.core.avoid(i, rec)))
	return no != nil
}

func (w *rWorld) checkRuns(x *rWork) {
	cur := x.cur()
	running := 0
	for _, id := range sortedKeys(w.nodes) {
		for k, c := range w.nodes[id].copies {
			if k.id == x.id && c.running {
				running++
			}
		}
	}
	if running > 1 && cur.State == autoheal.Running && w.nodes[cur.Node].said.Link == autoheal.LinkUp {
		w.fail("%d copies of %s run at the end", running, x.id)
	}
	if cur.Desired != autoheal.DesiredRunning || cur.State == autoheal.Succeeded || running == 1 && cur.State == autoheal.Running {
		return
	}
	if w.givenUp(x.id) || cur.State == autoheal.Pending && w.fits(cur, x.wishes[x.top]) == nil {
		return // a person knows, or it waits for a place: that is another kind of failure
	}
	for id := range w.core.ix.openIDs {
		if i := w.core.d.Incidents[id]; slices.ContainsFunc(i.Order, func(l autoheal.WorkloadID) bool { return slices.Contains(i.Recoveries[l].Members, x.id) }) {
			return // checkEnd has looked at it
		}
	}
	w.fail("%s is wanted, does not run (attempt %d %s on %s) and nobody cares", x.id, cur.Attempt, cur.State, cur.Node)
}

// givenUp reports whether the last recovery of a workload ended for a person to go on.
func (w *rWorld) givenUp(id autoheal.WorkloadID) bool {
	up, newest := false, time.Time{} // an older incident may have recovered it later
	for _, inc := range w.core.d.incidentIDs() {
		i := w.core.d.Incidents[inc]
		for _, rec := range append(slices.Clone(i.Past), recoveriesOf(i)...) {
			if slices.Contains(rec.Members, id) && !rec.Opened.Before(newest) {
				up, newest = rec.End == autoheal.EndEscalated, rec.Opened
			}
		}
	}
	return up
}

func recoveriesOf(i *incident) []*recovery {
	var out []*recovery
	for _, w := range i.Order {
		out = append(out, i.Recoveries[w])
	}
	return out
}

// dump tells the whole state at the end, for a story that went wrong.
func (w *rWorld) dump() {
	w.trace("end: wakes at %s, timers %v", w.wake, w.core.timers.at)
	for _, id := range sortedKeys(w.nodes) {
		n := w.nodes[id]
		w.trace("end: node %s power=%v net=%v %s schedulable=%v marks=%d free=%d", id, n.power, n.net, n.said.Link, n.said.Schedulable, len(n.said.Marks), w.free(n))
	}
	for _, id := range sortedKeys(w.works) {
		for _, num := range sortedKeys(w.works[id].said) {
			if a := w.works[id].said[num]; num == w.works[id].top || !a.State.Ended() {
				w.trace("end: %s/%d %s on %q %s twice=%v memory=%d settled=%d", id, num, a.State, a.Node, a.Desired, !a.AtMostOnce, a.Request.MemoryMB, w.core.d.Settled[id])
			}
		}
	}
	for id := range w.core.ix.openIDs {
		i := w.core.d.Incidents[id]
		for _, x := range i.Order {
			rec := i.Recoveries[x]
			w.trace("end: %s %s %s %s %s rung=%s attempts=%v new=%v held=%+v", id, i.Kind, x, rec.Step, rec.End, rec.Rung, rec.Attempts, rec.NewAttempts, rec.Held)
		}
	}
}
