package heal

import (
	"maps"
	"slices"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/detect"
	"autoheal.dev/autoheal/internal/journal"
)

// How much is remembered of the errors of a GPU, and how far apart two lines of the same attempt are two errors.
const (
	keepXids    = 64
	keepXidsFor = 7 * 24 * time.Hour
	sameXid     = 10 * time.Minute
)

// xidBook is what is remembered of the errors of one GPU: the last ones, and how often each came in all.
type xidBook struct {
	Last  []journal.XidSeen    `json:"last"`
	Codes map[string]*xidCount `json:"codes"`
}

type xidCount struct {
	N     int       `json:"n"`
	First time.Time `json:"first"`
	Last  time.Time `json:"last"`
}

// countXid notes what the kernel says of a GPU: once for a burst, and nothing anew when a listing repeats it.
func (c *Core) countXid(s *autoheal.Signal) {
	if !detect.Proven(s) || s.Clears || s.Subject.Kind != autoheal.RefGPU || s.Failure == autoheal.FailureNone {
		return
	}
	id := autoheal.GPUID(s.Subject.ID)
	n := c.v.NodeOfGPU(id)
	if n == nil || s.Subject.Generation != "" && s.Subject.Generation != n.BootID {
		return
	}
	x := journal.XidSeen{GPU: id, Code: s.Rule, App: s.Action == autoheal.AdviceRestartApp, At: s.At}
	for _, w := range c.v.WorkloadsOn(n.ID) {
		if slices.Contains(w.GPUs, id) {
			x.Workload, x.Attempt, x.Like = w.ID, w.Attempt, startedLike(w)
		}
	}
	if b := c.d.Xids[id]; b != nil && slices.ContainsFunc(b.Last, func(o journal.XidSeen) bool { return sameError(o, x) }) {
		return
	}
	c.record("", x)
}

// sameError reports whether two lines tell of one error: of the same moment, or of the same attempt and not far apart.
func sameError(a, b journal.XidSeen) bool {
	apart := a.At.Sub(b.At).Abs()
	return a.Code == b.Code && (apart < time.Second || apart < sameXid && a.Workload == b.Workload && a.Attempt == b.Attempt)
}

func (d *durable) foldXid(p journal.XidSeen) {
	if d.Xids == nil { // of a snapshot from before this was kept
		d.Xids = map[autoheal.GPUID]*xidBook{}
	}
	b := d.Xids[p.GPU]
	if b == nil {
		b = &xidBook{Codes: map[string]*xidCount{}}
		d.Xids[p.GPU] = b
	}
	b.Last = slices.DeleteFunc(append(b.Last, p), func(x journal.XidSeen) bool { return p.At.Sub(x.At) > keepXidsFor })
	b.Last = b.Last[max(0, len(b.Last)-keepXids):]
	n := b.Codes[p.Code]
	if n == nil {
		n = &xidCount{First: p.At}
		b.Codes[p.Code] = n
	}
	n.N++
	n.Last = p.At
	d.find.addXid(p)
}

// addXid makes an error of a GPU known by the program that ran on it.
func (l *lookup) addXid(p journal.XidSeen) {
	if p.Like == "" {
		return
	}
	old := slices.DeleteFunc(l.xidsLike[p.Like], func(x detect.Xid) bool { return p.At.Sub(x.At) > keepXidsFor })
	old = append(old, xidOf(p))
	l.xidsLike[p.Like] = old[max(0, len(old)-keepXids):]
}

func (d *durable) lookUpXids() {
	var all []journal.XidSeen
	for _, id := range slices.Sorted(maps.Keys(d.Xids)) {
		all = append(all, d.Xids[id].Last...)
	}
	slices.SortStableFunc(all, func(a, b journal.XidSeen) int { return a.At.Compare(b.At) })
	for _, x := range all {
		d.find.addXid(x)
	}
}

func xidOf(p journal.XidSeen) detect.Xid {
	return detect.Xid{GPU: p.GPU, Code: p.Code, Like: p.Like, App: p.App, At: p.At}
}

// sight is what detectors see: the cluster as observed, and what is remembered of its GPUs.
type sight struct {
	*view
	d *durable
}

var _ detect.View = sight{}

func (s sight) Xids(id autoheal.GPUID) []detect.Xid {
	b := s.d.Xids[id]
	if b == nil {
		return nil
	}
	out := make([]detect.Xid, len(b.Last))
	for n, x := range b.Last {
		out[n] = xidOf(x)
	}
	return out
}

func (s sight) XidsOf(program string) []detect.Xid { return s.d.find.xidsLike[program] }

// NodeOfGPU returns the node that lists a GPU.
func (v *view) NodeOfGPU(id autoheal.GPUID) *autoheal.Node { return v.nodes[v.gpuAt[id]] }

// listGPUs follows which node lists which GPU. Either node may be nil.
func (v *view) listGPUs(before, n *autoheal.Node) {
	if before != nil && n != nil && slices.EqualFunc(before.GPUs, n.GPUs, func(a, b autoheal.GPU) bool { return a.UUID == b.UUID }) {
		return
	}
	if before != nil {
		for _, g := range before.GPUs {
			if v.gpuAt[g.UUID] == before.ID {
				delete(v.gpuAt, g.UUID)
			}
		}
	}
	if n != nil {
		for _, g := range n.GPUs {
			v.gpuAt[g.UUID] = n.ID
		}
	}
}
