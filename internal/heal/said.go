package heal

import (
	"slices"
	"strconv"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/detect"
)

// Bounds of what is kept of what was said: the latest stays.
const (
	keepSaid  = 32 // of one attempt
	keepLinks = 8  // of one node
)

// spoken is what workloads and nodes have told of themselves. It is not journalled: what still holds comes with a listing.
type spoken struct {
	work      map[autoheal.WorkloadID]*words
	links     map[autoheal.NodeID][]autoheal.Signal // losses that were not taken back
	catalogue *detect.Catalogue                     // of the policy in force, once somebody asks
}

// words are the failures that one attempt has told of, oldest first.
type words struct {
	attempt int
	signals []autoheal.Signal
}

// Catalogue returns what signals mean under the policy in force.
func (v *view) Catalogue() *detect.Catalogue {
	if v.said.catalogue == nil {
		v.said.catalogue = detect.CatalogueOf(v.pol)
	}
	return v.said.catalogue
}

// Said returns the failures that the current attempt of a workload has told of.
func (v *view) Said(id autoheal.WorkloadID) []autoheal.Signal {
	w, s := v.cur[id], v.said.work[id]
	if w == nil || s == nil || s.attempt != w.Attempt {
		return nil
	}
	return s.signals
}

// note keeps a signal: of a rank of a gang, or about a link of a node.
func (v *view) note(s *autoheal.Signal) {
	if v.said.work == nil {
		v.said.work, v.said.links = map[autoheal.WorkloadID]*words{}, map[autoheal.NodeID][]autoheal.Signal{}
	}
	switch {
	case s.Subject.Kind == autoheal.RefWorkload && s.Failure != autoheal.FailureNone:
		v.noteWords(s)
	case s.Subject.Kind == autoheal.RefNode && s.Failure == autoheal.FailureNetwork && detect.IsLink(v.Catalogue(), s):
		v.noteLink(s)
	}
}

func (v *view) noteWords(s *autoheal.Signal) {
	id := autoheal.WorkloadID(s.Subject.ID)
	attempt, err := strconv.Atoi(s.Subject.Generation)
	if w := v.cur[id]; err != nil || w != nil && (w.Gang == "" || attempt < w.Attempt) {
		return // alone it has nobody to compare it with
	}
	k := v.said.work[id]
	if k == nil || k.attempt < attempt {
		k = &words{attempt: attempt}
		v.said.work[id] = k
	}
	if k.attempt > attempt {
		return
	}
	k.signals = slices.DeleteFunc(k.signals, func(o autoheal.Signal) bool { return o.Rule == s.Rule && (s.Clears || o.Excerpt == s.Excerpt) })
	if s.Clears {
		return
	}
	k.signals = append(k.signals, *s)
	if len(k.signals) > keepSaid {
		k.signals = slices.Delete(k.signals, keepSaid/2, keepSaid/2+1) // the first say how it began, the last how it ends
	}
}

// noteLink keeps the links that a node has lost and not got back.
func (v *view) noteLink(s *autoheal.Signal) {
	id := autoheal.NodeID(s.Subject.ID)
	left := slices.DeleteFunc(v.said.links[id], func(o autoheal.Signal) bool {
		return o.Rule == s.Rule && (o.Excerpt == s.Excerpt || s.Clears && sameThing(&o, s)) || o.Subject.Generation != s.Subject.Generation
	})
	if !s.Clears {
		left = append(left, *s)
	}
	if len(left) == 0 {
		delete(v.said.links, id)
		return
	}
	v.said.links[id] = left[max(0, len(left)-keepLinks):]
}

// sameThing reports whether two signals of one rule are about the same part.
func sameThing(a, b *autoheal.Signal) bool {
	for _, key := range []string{"interface", "device", "port"} {
		if a.Fields[key] != b.Fields[key] {
			return false
		}
	}
	return true
}

// lostLinks returns the links that a node has lost in its present boot.
func (v *view) lostLinks(id autoheal.NodeID) []autoheal.Signal {
	n := v.nodes[id]
	if n == nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(v.said.links[id]), func(s autoheal.Signal) bool {
		return s.Subject.Generation != "" && s.Subject.Generation != n.BootID
	})
}

// forget drops what was said by what is not there any more.
func (s *spoken) forget(r autoheal.Ref) {
	switch r.Kind {
	case autoheal.RefNode:
		delete(s.links, autoheal.NodeID(r.ID))
	case autoheal.RefWorkload:
		delete(s.work, autoheal.WorkloadID(r.ID))
	}
}
