package heal

import (
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/place"
)

// waiting is an attempt that waits for a place.
type waiting struct {
	attempt int
	since   time.Time
}

// wait follows since when the current attempt of a workload waits for a place: the first since it was submitted, a later
// one since it was seen to.
func (v *view) wait(w *autoheal.Workload, now time.Time) {
	if v.cur[w.ID] != w {
		return
	}
	if w.State != autoheal.Pending {
		delete(v.waits, w.ID)
		return
	}
	if v.waits[w.ID].attempt == w.Attempt {
		return
	}
	since := now
	if w.Attempt == 1 && !w.SubmittedAt.IsZero() && w.SubmittedAt.Before(now) {
		since = w.SubmittedAt
	}
	v.waits[w.ID] = waiting{w.Attempt, since}
}

func (v *view) PendingSince(id autoheal.WorkloadID) time.Time { return v.waits[id].since }

func (v *view) Missing(ws []*autoheal.Workload) string {
	rs := make([]place.Request, len(ws))
	for n, w := range ws {
		rs[n] = place.RequestOf(w)
	}
	if _, no := v.index.FitAll(rs); no == nil {
		return ""
	}
	return v.index.Shortage(rs)
}

func partOf(w *autoheal.Workload) autoheal.WorkloadID {
	if w == nil {
		return ""
	}
	return w.Parent
}

// gpuCount is how many GPUs there are on nodes that answer, and on the largest of them.
func (v *view) gpuCount() (all, largest int) {
	for _, n := range v.nodes {
		if n.Link == autoheal.LinkUp {
			all += len(n.GPUs)
			largest = max(largest, len(n.GPUs))
		}
	}
	return all, largest
}
