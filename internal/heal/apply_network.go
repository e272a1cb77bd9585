package heal

import (
	"slices"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/journal"
	"autoheal.dev/autoheal/internal/policy"
)

// blame is who holds a gang up, and when that was told.
type blame struct {
	journal.CulpritTold
	At time.Time `json:"at"`
}

// pair is how one node reached another, and when that was told.
type pair struct {
	journal.PairChecked
	At time.Time `json:"at"`
}

// culprit is one time that a node was told to hold up a gang.
type culprit struct {
	Incident   autoheal.IncidentID `json:"incident"`
	Gang       autoheal.GangID     `json:"gang"`
	Confidence float64             `json:"confidence"`
	Accusers   []autoheal.NodeID   `json:"accusers,omitempty"`
	At         time.Time           `json:"at"`
}

// isolation is a node that was taken out of use because of its network. It lasts until somebody lifts the mark.
type isolation struct {
	journal.Isolated
	Incident autoheal.IncidentID `json:"incident"`
	At       time.Time           `json:"at"`
	Over     bool                `json:"over,omitempty"`
}

// Roles of culprits that the core itself asks for.
const roleLink = "link"

func (d *durable) foldNetwork(i *incident, r journal.Record) {
	switch p := r.Data.(type) {
	case journal.CulpritTold:
		d.foldCulprit(i, p, r.At)
	case journal.PairChecked:
		i.Pairs = append(slices.DeleteFunc(i.Pairs, func(o pair) bool { return o.From == p.From && o.To == p.To }), pair{p, r.At})
	case journal.Isolated:
		d.Isolations = append(slices.DeleteFunc(d.Isolations, func(o *isolation) bool { return o.Over && r.At.Sub(o.At) > culpritWindow }),
			&isolation{Isolated: p, Incident: i.ID, At: r.At})
	}
}

// foldCulprit takes in who is told to hold a gang up: what was found out about others begins anew.
func (d *durable) foldCulprit(i *incident, p journal.CulpritTold, at time.Time) {
	i.Told, i.Pairs = &blame{p, at}, nil
	for _, n := range p.Suspects {
		if !slices.Contains(i.Suspects, n) {
			i.Suspects = append(i.Suspects, n)
		}
	}
	for _, s := range []policy.Step{policy.StepCollectNetwork, policy.StepIsolate, policy.StepAlert} {
		delete(i.Steps, string(s))
	}
	if p.Node == "" || p.Role == roleLink {
		return
	}
	if d.Culprits == nil { // of a snapshot from before this was kept
		d.Culprits = map[autoheal.NodeID][]culprit{}
	}
	d.Culprits[p.Node] = slices.DeleteFunc(append(d.Culprits[p.Node], culprit{i.ID, p.Gang, p.Confidence, p.Accusers, at}),
		func(o culprit) bool { return at.Sub(o.At) > culpritWindow })
}

// foldUnisolated ends the isolation of a node whose mark is gone. Somebody has looked at it: what it was accused of before
// that counts no more.
func (d *durable) foldUnisolated(r autoheal.Ref) {
	if r.Kind != autoheal.RefNode {
		return
	}
	for _, o := range d.Isolations {
		if string(o.Node) == r.ID && !o.Over {
			o.Over = true
			delete(d.Culprits, o.Node)
		}
	}
}

// isolated returns why a node is out of use because of its network; nil if it is not.
func (d *durable) isolated(id autoheal.NodeID) *isolation {
	for _, o := range d.Isolations {
		if o.Node == id && !o.Over {
			return o
		}
	}
	return nil
}
