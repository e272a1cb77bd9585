package heal

import (
	"maps"
	"slices"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/detect"
)

// keepApprovals is for how long an approval is remembered after it has expired.
const keepApprovals = 24 * time.Hour

// lookup finds by key what the folded alerts and approvals are asked for again and again. It is derived from them and not
// part of a snapshot.
type lookup struct {
	alerts    map[string]int    // how many alerts are kept under a key of deduplication
	keyed     map[string]string // the newest of them
	alertsOf  map[autoheal.IncidentID][]*alert
	approvals map[approvalKey][]*approval // in the order in which they were asked for
	asked     []*approval                 // all, in the same order
	xidsLike  map[string][]detect.Xid     // the last errors of GPUs, by the program that ran there
}

// approvalKey is what an approval is for: one verb on one generation of a target, for one incident or one agent.
type approvalKey struct {
	incident autoheal.IncidentID
	actor    string // of a command; the engine acts for incidents
	verb     autoheal.Verb
	target   autoheal.Ref
}

func (a *approval) key() approvalKey {
	return approvalKey{a.Incident, a.Actor, a.Verb, a.Target}
}

func newLookup() lookup {
	return lookup{alerts: map[string]int{}, keyed: map[string]string{}, alertsOf: map[autoheal.IncidentID][]*alert{}, approvals: map[approvalKey][]*approval{}, xidsLike: map[string][]detect.Xid{}}
}

// lookUp builds the lookup from nothing, after a snapshot.
func (d *durable) lookUp() {
	d.find = newLookup()
	for _, a := range d.Alerts {
		d.find.addAlert(a)
	}
	byNumber := func(a, b *approval) int { return number(a.ID, "app-") - number(b.ID, "app-") }
	for _, a := range slices.SortedFunc(maps.Values(d.Approvals), byNumber) {
		d.find.addApproval(a)
	}
	d.lookUpXids()
}

func (l *lookup) addAlert(a *alert) {
	l.alerts[a.DedupKey]++
	if a.DedupKey == heartbeatKey {
		l.keyed[a.DedupKey] = a.ID
	}
	l.alertsOf[a.Incident] = append(l.alertsOf[a.Incident], a)
}

func (l *lookup) dropAlert(a *alert) {
	if l.alerts[a.DedupKey]--; l.alerts[a.DedupKey] == 0 {
		delete(l.alerts, a.DedupKey)
	}
	if rest := l.alertsOf[a.Incident][1:]; len(rest) > 0 { // the oldest goes first
		l.alertsOf[a.Incident] = rest
	} else {
		delete(l.alertsOf, a.Incident)
	}
}

// alert finds a kept alert by its ID; they are in the order of their numbers.
func (d *durable) alert(id string) *alert {
	n := number(id, "alert-")
	at, ok := slices.BinarySearchFunc(d.Alerts, n, func(a *alert, n int) int { return number(a.ID, "alert-") - n })
	if !ok || d.Alerts[at].ID != id {
		return nil
	}
	return d.Alerts[at]
}

// alerted reports whether an alert was raised under this key.
func (d *durable) alerted(key string) bool { return d.find.alerts[key] > 0 }

func (l *lookup) addApproval(a *approval) {
	k := a.key()
	l.approvals[k] = append(l.approvals[k], a)
	l.asked = append(l.asked, a)
}

// forgetApprovals drops those that expired long ago.
func (d *durable) forgetApprovals(now time.Time) {
	for len(d.find.asked) > 0 && now.Sub(d.find.asked[0].Expires) > keepApprovals {
		a := d.find.asked[0]
		d.find.asked = d.find.asked[1:]
		delete(d.Approvals, a.ID)
		k := a.key()
		if rest := d.find.approvals[k][1:]; len(rest) > 0 {
			d.find.approvals[k] = rest
		} else {
			delete(d.find.approvals, k)
		}
	}
}
