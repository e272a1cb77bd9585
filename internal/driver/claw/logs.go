package claw

import (
	"cmp"
	"context"
	"iter"
	"maps"
	"slices"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/nodeproto"
)

const (
	defaultLines = 1000
	logsTimeout  = 15 * time.Second
)

// logSource is one attempt, or the kernel of a node, whose lines are asked for.
type logSource struct {
	ref    attemptRef // zero for the kernel's
	node   autoheal.NodeID
	device string
}

// Logs implements autoheal.Observer: it asks the nodes for the attempts that q selects and, unless q names a workload, for
// what their kernels said. A node that does not answer is an error after the lines of the others.
func (d *Driver) Logs(ctx context.Context, q autoheal.LogQuery) iter.Seq2[autoheal.LogLine, error] {
	return func(yield func(autoheal.LogLine, error) bool) {
		limit := q.Limit
		if limit <= 0 {
			limit = defaultLines
		}
		var lines []autoheal.LogLine
		var failed []error
		for _, s := range d.logSources(q) {
			got, err := d.linesOf(ctx, s, q, limit)
			if err != nil {
				failed = append(failed, err)
			}
			lines = append(lines, got...)
		}
		slices.SortStableFunc(lines, func(a, b autoheal.LogLine) int { return a.At.Compare(b.At) })
		for _, l := range lines[max(0, len(lines)-limit):] {
			if !yield(l, nil) {
				return
			}
		}
		for _, err := range failed {
			if !yield(autoheal.LogLine{}, err) {
				return
			}
		}
	}
}

func (d *Driver) logSources(q autoheal.LogQuery) []logSource {
	d.mu.Lock()
	defer d.mu.Unlock()
	ids := []autoheal.WorkloadID{q.Workload}
	if q.Workload == "" {
		ids = slices.Sorted(maps.Keys(d.workloads))
	}
	var out []logSource
	for _, id := range ids {
		w := d.workloads[id]
		if w == nil {
			continue
		}
		own := []*workload{w}
		for _, c := range childIDs(d.children[id]) {
			if q.Workload != "" { // a scaled service's lines are those of its replicas
				own = append(own, d.children[id][c])
			}
		}
		for _, x := range own {
			for _, a := range x.sorted() {
				wanted := q.Attempt == a.ref.n || (q.Attempt == 0 && (a.ref.n == x.attempt || q.Workload != ""))
				n := d.nodes[a.node]
				if wanted && n != nil && (q.Node == "" || q.Node == a.node) {
					out = append(out, logSource{a.ref, a.node, n.device})
				}
			}
		}
	}
	if q.Workload != "" {
		return out
	}
	for _, id := range slices.Sorted(maps.Keys(d.nodes)) {
		if n := d.nodes[id]; n.status != nil && (q.Node == "" || q.Node == id) {
			out = append(out, logSource{node: id, device: n.device})
		}
	}
	return out
}

func (s logSource) String() string {
	if s.ref.id == "" {
		return "the kernel of " + string(s.node)
	}
	return s.ref.String() + " from " + string(s.node)
}

func (d *Driver) linesOf(ctx context.Context, s logSource, q autoheal.LogQuery, limit int) ([]autoheal.LogLine, error) {
	now := d.clock.Now()
	req := nodeproto.LogsRequest{Workload: s.ref.id, Attempt: s.ref.n, Kernel: s.ref.id == "", Level: q.Level, Query: q.Query, Limit: limit}
	if !q.Since.IsZero() {
		req.SinceMS = max(now.Sub(q.Since).Milliseconds(), 1)
	}
	var resp nodeproto.LogsResponse
	if err := d.call(ctx, s.device, nodeproto.CmdLogs, d.key("logs"), req, &resp, logsTimeout); err != nil {
		if nodeCode(err) == nodeproto.CodeNotFound {
			return nil, nil // the node keeps nothing of it any more
		}
		return nil, &autoheal.Error{Kind: autoheal.ErrUnavailable, Op: "read logs of " + s.String(), Err: err}
	}
	at := d.clock.Now()
	out := make([]autoheal.LogLine, 0, len(resp.Lines))
	for _, l := range resp.Lines {
		when := at.Add(-age(l.AgeMS))
		if !q.Until.IsZero() && when.After(q.Until) {
			continue
		}
		out = append(out, autoheal.LogLine{
			At: when, Level: l.Level, Source: l.Stream, Node: s.node, Workload: s.ref.id, Attempt: cmp.Or(l.Attempt, s.ref.n), Message: l.Message, Words: l.Words,
		})
	}
	return out, nil
}
