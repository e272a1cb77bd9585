package claw

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/nodeproto"
)

// keepEvidence and keepEvidenceBytes bound the captures that are kept; the latest one always is.
const (
	keepEvidence      = 200
	keepEvidenceBytes = 64 << 20
)

// collectTime is how long a node may take to capture evidence (behaviour F4).
const collectTime = time.Minute

// doCollect asks a node for evidence and keeps it. It is called with d.mu held and releases it.
func (d *Driver) doCollect(ctx context.Context, a autoheal.Action) autoheal.Result {
	n, req, err := d.planCollect(a)
	if err != nil {
		d.mu.Unlock()
		return d.refused(a, err)
	}
	d.mu.Unlock()
	var resp nodeproto.CollectResponse
	cerr := d.call(ctx, n.device, nodeproto.CmdCollect, d.key("collect/"+string(a.ID)), req, &resp, d.budget(a, collectTime))
	d.mu.Lock()
	defer d.mu.Unlock()
	if cerr != nil {
		return d.failed(a, cerr)
	}
	return d.acceptLocked(ctx, a, effect{rows: keepCapture(a, n.id, resp.Texts, d.clock.Now())})
}

// planCollect says which node is asked for what: of a GPU or a node, and of the workload that its failure concerns.
func (d *Driver) planCollect(a autoheal.Action) (*node, nodeproto.CollectRequest, *autoheal.Error) {
	req := nodeproto.CollectRequest{Epoch: d.epoch, Action: a.ID, Workload: a.Params.For, Dump: a.Params.Force}
	var n *node
	switch a.Target.Kind {
	case autoheal.RefNode:
		req.Whole = true
		n = d.nodes[autoheal.NodeID(a.Target.ID)]
	case autoheal.RefGPU:
		req.GPU = autoheal.GPUID(a.Target.ID)
		n = d.nodeOfGPU(req.GPU)
	case autoheal.RefWorkload:
		req.Workload = autoheal.WorkloadID(a.Target.ID)
		if w := d.workloads[req.Workload]; w != nil && w.current() != nil {
			n = d.nodes[w.current().node]
		}
	}
	switch {
	case n == nil:
		return nil, req, problem(autoheal.ErrNotFound, "there is no node to collect from")
	case n.status != nil && !slices.Contains(d.capsLocked(n), autoheal.Collect):
		return nil, req, problem(autoheal.ErrUnsupported, "the agent of %s cannot collect", n.id)
	}
	return n, req, nil
}

// keepCapture keeps what was captured, and makes room for it.
func keepCapture(a autoheal.Action, from autoheal.NodeID, texts map[string]string, now time.Time) []row {
	raw := text(texts)
	return []row{
		exec(`INSERT INTO fleet_evidence (action, incident, node, target, texts, bytes, at) VALUES (?,?,?,?,?,?,?) ON CONFLICT (action) DO NOTHING`,
			string(a.ID), string(a.Incident), string(from), text(a.Target), raw, len(raw), nanos(now)),
		exec(`DELETE FROM fleet_evidence WHERE seq <= (SELECT max(seq) FROM fleet_evidence) - ?`, keepEvidence),
		exec(`DELETE FROM fleet_evidence WHERE seq < (SELECT max(seq) FROM fleet_evidence) AND seq IN (
			SELECT seq FROM (SELECT seq, sum(bytes) OVER (ORDER BY seq DESC) AS total FROM fleet_evidence) WHERE total > ?)`, keepEvidenceBytes),
	}
}

// Captures implements autoheal.Captures.
func (d *Driver) Captures(ctx context.Context, id autoheal.IncidentID) (out []autoheal.Capture, err error) {
	fail := func(err error) ([]autoheal.Capture, error) {
		return nil, &autoheal.Error{Kind: autoheal.ErrInternal, Op: "read evidence of " + string(id), Err: err}
	}
	rows, err := d.opts.DB.Read().QueryContext(ctx, `SELECT action, node, target, texts, at FROM fleet_evidence WHERE incident = ? ORDER BY seq`, string(id))
	if err != nil {
		return fail(err)
	}
	defer rows.Close()
	for rows.Next() {
		c := autoheal.Capture{Incident: id, Parts: []autoheal.Part{}}
		var target, raw string
		var at int64
		texts := map[string]string{}
		if err := rows.Scan(&c.Action, &c.Node, &target, &raw, &at); err != nil {
			return fail(err)
		}
		if err := json.Unmarshal([]byte(target), &c.Target); err != nil {
			return fail(err)
		}
		if err := json.Unmarshal([]byte(raw), &texts); err != nil {
			return fail(err)
		}
		c.At = moment(at)
		for _, name := range slices.Sorted(maps.Keys(texts)) {
			c.Parts = append(c.Parts, autoheal.Part{Name: name, Text: texts[name]})
		}
		out = append(out, c)
	}
	if err := rows.Err(); err != nil {
		return fail(err)
	}
	return out, nil
}
