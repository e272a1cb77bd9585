package heal

import "autoheal.dev/autoheal"

// well reports whether no detector can claim anything of a workload that is listed: it stands alone, and it runs and its
// checks find nothing, or it has completed. Most of a cluster is well, and is only passed by.
func well(w *autoheal.Workload) bool {
	return w.Gang == "" && (w.State == autoheal.Running && w.Failing == nil || w.State == autoheal.Succeeded)
}

// notice keeps which workloads are to be looked at when a listing is complete.
func (v *view) notice(w *autoheal.Workload) {
	if well(w) {
		delete(v.unwell, w.ID)
		return
	}
	v.unwell[w.ID] = true
}
