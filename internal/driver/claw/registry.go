package claw

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"autoheal.dev/autoheal"
)

// keepActions bounds how many accepted actions are remembered, keepLineage how many attempts of one workload.
const (
	keepActions = 20000
	keepLineage = 50
)

// row is one change of the registry.
type row func(tx *sql.Tx) error

// saveLocked makes changes durable together. The end of the driver does not cut a write off.
func (d *Driver) saveLocked(ctx context.Context, rows ...row) error {
	if len(rows) == 0 {
		return nil
	}
	err := d.opts.DB.Write(context.WithoutCancel(ctx), func(tx *sql.Tx) error {
		for _, r := range rows {
			if err := r(tx); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("write registry: %w", err)
	}
	return nil
}

func exec(query string, args ...any) row {
	return func(tx *sql.Tx) error {
		_, err := tx.Exec(query, args...)
		return err
	}
}

// text renders a value of ours as JSON; none of them can fail.
func text(v any) string {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("claw: a registry value that cannot be rendered: %v", err))
	}
	return string(raw)
}

func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func moment(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}

func putNode(n *node) row {
	return exec(`INSERT INTO nodes (id, device_id, name, labels, marks, gpu_marks, drain, status, boot_id, approved_at)
		VALUES (?,?,?,?,?,?,?,?,?,?) ON CONFLICT (id) DO UPDATE SET device_id=excluded.device_id, labels=excluded.labels,
		marks=excluded.marks, gpu_marks=excluded.gpu_marks, drain=excluded.drain, status=excluded.status,
		boot_id=excluded.boot_id, approved_at=excluded.approved_at`,
		string(n.id), n.device, string(n.id), text(n.labels), text(n.marks), text(n.gpuMarks), text(n.drain), text(n.status),
		n.bootID, nanos(n.approved))
}

func putWorkload(w *workload) row {
	return exec(`INSERT INTO workloads (id, action, name, spec, desired, attempt, marks, parent, replicas, created_at)
		VALUES (?,?,?,?,?,?,?,?,?,?) ON CONFLICT (id) DO UPDATE SET desired=excluded.desired, attempt=excluded.attempt,
		marks=excluded.marks, replicas=excluded.replicas`,
		string(w.id), string(w.submit), w.spec.Name, text(w.spec), string(w.desired), w.attempt, text(w.paused),
		string(w.parent), w.replicas, nanos(w.created))
}

func putAttempt(a *attempt) row {
	return exec(`INSERT INTO attempts (workload, n, node, gpus, memory_mb, action, state, cause, hedge, wishes, stop, generation,
		created, started, ended, exit, detail) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT (workload, n) DO UPDATE SET
		node=excluded.node, gpus=excluded.gpus, memory_mb=excluded.memory_mb, state=excluded.state, hedge=excluded.hedge,
		wishes=excluded.wishes, stop=excluded.stop, generation=excluded.generation, started=excluded.started,
		ended=excluded.ended, exit=excluded.exit, detail=excluded.detail`,
		string(a.ref.id), a.ref.n, string(a.node), text(a.gpus), a.memoryMB, string(a.action), string(a.state), string(a.cause),
		a.hedge, text(a.wishes), text(a.stop), a.generation, nanos(a.created), nanos(a.started), nanos(a.ended), text(a.exit),
		a.detail)
}

// dropAttempts removes ended attempts of w beyond the newest keepLineage.
func dropAttempts(w *workload) row {
	return exec(`DELETE FROM attempts WHERE workload = ? AND n <= ? AND ended > 0`, string(w.id), w.attempt-keepLineage)
}

func putNomination(n *nomination) row {
	return exec(`INSERT INTO nominations (workload, node, gpus, "for", until) VALUES (?,?,?,?,?) ON CONFLICT (workload) DO UPDATE
		SET node=excluded.node, gpus=excluded.gpus, "for"=excluded."for", until=excluded.until`,
		string(n.workload), string(n.node), text(n.gpus), string(n.action), nanos(n.until))
}

func dropNomination(id autoheal.WorkloadID) row {
	return exec(`DELETE FROM nominations WHERE workload = ?`, string(id))
}

func putAction(a autoheal.Action, at time.Time) row {
	return exec(`INSERT INTO fleet_actions (id, verb, ref, at) VALUES (?,?,?,?) ON CONFLICT (id) DO NOTHING`,
		string(a.ID), string(a.Verb), a.Target.String(), nanos(at))
}

func dropAction(id autoheal.ActionID) row {
	return exec(`DELETE FROM fleet_actions WHERE id = ?`, string(id))
}

func putMeta(key, value string) row {
	return exec(`INSERT INTO fleet_meta (key, value) VALUES (?,?) ON CONFLICT (key) DO UPDATE SET value=excluded.value`, key, value)
}

const (
	metaCounter = "counter"
	metaEpoch   = "epoch"
	metaOrderly = "orderly"
	metaBoot    = "boot"
	metaLease   = "lease" // the longest that a node may hold, of any life since the last orderly end
)

// loadLocked reads the whole registry.
func (d *Driver) loadLocked(ctx context.Context) error {
	steps := []struct {
		query string
		scan  func(*sql.Rows) error
	}{
		{`SELECT key, value FROM fleet_meta`, d.scanMeta},
		{`SELECT id, device_id, labels, marks, gpu_marks, drain, status, boot_id, approved_at FROM nodes ORDER BY id`, d.scanNode},
		{`SELECT workload, node, gpus, "for", until FROM nominations ORDER BY workload`, d.scanNomination},
		{`SELECT id, action, spec, desired, attempt, marks, parent, replicas, created_at FROM workloads ORDER BY id`, d.scanWorkload},
		{`SELECT workload, n, node, gpus, memory_mb, action, state, cause, hedge, wishes, stop, generation, created, started,
			ended, exit, detail FROM attempts ORDER BY workload, n`, d.scanAttempt},
		{`SELECT id, verb FROM fleet_actions ORDER BY seq`, d.scanAction},
	}
	for _, s := range steps {
		if err := d.readRows(ctx, s.query, s.scan); err != nil {
			return fmt.Errorf("read registry: %w", err)
		}
	}
	for _, w := range d.workloads {
		for _, a := range w.attempts {
			d.trackLocked(w, a)
		}
	}
	d.longest = max(d.longest, d.opts.SelfStop)
	rows := []row{putMeta(metaOrderly, ""), putMeta(metaBoot, d.opts.BootID), putMeta(metaLease, d.longest.String())}
	if d.opts.Epoch >= d.epoch {
		d.epoch = d.opts.Epoch
		rows = append(rows, putMeta(metaEpoch, strconv.FormatUint(d.epoch, 10)))
	}
	return d.saveLocked(ctx, rows...)
}

func (d *Driver) readRows(ctx context.Context, query string, scan func(*sql.Rows) error) error {
	rows, err := d.opts.DB.Read().QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

func (d *Driver) scanMeta(rows *sql.Rows) error {
	var key, value string
	if err := rows.Scan(&key, &value); err != nil {
		return err
	}
	switch key {
	case metaCounter:
		d.counter, _ = strconv.ParseUint(value, 10, 64) // written by us
	case metaEpoch:
		n, _ := strconv.ParseUint(value, 10, 64)
		d.epoch = max(d.epoch, n)
	case metaOrderly:
		d.resumed = value != ""
	case metaLease:
		d.longest, _ = time.ParseDuration(value) // written by us
	}
	return nil
}

func (d *Driver) scanNode(rows *sql.Rows) error {
	var id, device, labels, marks, gpuMarks, drain, status, boot string
	var approved int64
	if err := rows.Scan(&id, &device, &labels, &marks, &gpuMarks, &drain, &status, &boot, &approved); err != nil {
		return err
	}
	n := newNode(autoheal.NodeID(id), device)
	n.bootID, n.approved = boot, moment(approved)
	d.nodes[n.id], d.byDevice[device] = n, n
	return decode(fmt.Sprintf("node %s", id), labels, &n.labels, marks, &n.marks, gpuMarks, &n.gpuMarks, drain, &n.drain, status, &n.status)
}

func (d *Driver) scanNomination(rows *sql.Rows) error {
	var id, on, gpus, action string
	var until int64
	if err := rows.Scan(&id, &on, &gpus, &action, &until); err != nil {
		return err
	}
	n := &nomination{
		workload: autoheal.WorkloadID(id), node: autoheal.NodeID(on), action: autoheal.ActionID(action), until: moment(until),
	}
	d.nominations[n.workload] = n
	return decode("nomination of "+id, gpus, &n.gpus)
}

func (d *Driver) scanWorkload(rows *sql.Rows) error {
	var id, submit, spec, desired, marks, parent string
	var current, replicas int
	var created int64
	if err := rows.Scan(&id, &submit, &spec, &desired, &current, &marks, &parent, &replicas, &created); err != nil {
		return err
	}
	w := &workload{
		id: autoheal.WorkloadID(id), submit: autoheal.ActionID(submit), desired: autoheal.Desired(desired), attempt: current,
		parent: autoheal.WorkloadID(parent), replicas: replicas, created: moment(created), attempts: map[int]*attempt{},
	}
	if err := decode("workload "+id, spec, &w.spec, marks, &w.paused); err != nil {
		return err
	}
	d.adoptLocked(w)
	return nil
}

// adoptLocked derives what is not stored and enters w into the maps.
func (d *Driver) adoptLocked(w *workload) {
	w.set, _ = autoheal.ParseLabels(w.spec.Labels) // checked at submit; what a newer program refuses is left out
	w.class, w.classRule, w.kind, w.atMostOnce = d.opts.Classify(w.spec, w.set)
	w.specHash = specHash(w.spec)
	d.workloads[w.id] = w
	d.bySubmit[w.submit] = w.id
	if g := w.set.Gang; g != "" {
		if d.gangs[g] == nil {
			d.gangs[g] = map[autoheal.WorkloadID]*workload{}
		}
		d.gangs[g][w.id] = w
	}
	if w.parent != "" {
		if d.children[w.parent] == nil {
			d.children[w.parent] = map[autoheal.WorkloadID]*workload{}
		}
		d.children[w.parent][w.id] = w
	}
}

func (d *Driver) scanAttempt(rows *sql.Rows) error {
	var id, on, gpus, action, state, why, wish, stop, exit string
	var created, started, ended int64
	a := &attempt{}
	if err := rows.Scan(&id, &a.ref.n, &on, &gpus, &a.memoryMB, &action, &state, &why, &a.hedge, &wish, &stop, &a.generation,
		&created, &started, &ended, &exit, &a.detail); err != nil {
		return err
	}
	a.ref.id, a.node, a.action = autoheal.WorkloadID(id), autoheal.NodeID(on), autoheal.ActionID(action)
	a.state, a.cause = autoheal.WorkloadState(state), cause(why)
	a.created, a.started, a.ended = moment(created), moment(started), moment(ended)
	a.saved = a.state.Ended()
	a.maybe = a.state == autoheal.Scheduled // the life before may have sent it
	d.workloads[a.ref.id].attempts[a.ref.n] = a
	return decode("attempt "+a.ref.String(), gpus, &a.gpus, wish, &a.wishes, stop, &a.stop, exit, &a.exit)
}

func (d *Driver) scanAction(rows *sql.Rows) error {
	var id, verb string
	if err := rows.Scan(&id, &verb); err != nil {
		return err
	}
	d.accepted[autoheal.ActionID(id)] = autoheal.Verb(verb)
	d.acceptedIDs = append(d.acceptedIDs, autoheal.ActionID(id))
	return nil
}

// decode reads pairs of JSON text and destination.
func decode(what string, pairs ...any) error {
	for i := 0; i < len(pairs); i += 2 {
		if err := json.Unmarshal([]byte(pairs[i].(string)), pairs[i+1]); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	return nil
}
