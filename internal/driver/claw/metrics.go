package claw

import (
	"context"
	"iter"
	"maps"
	"slices"
	"strconv"
	"time"

	"autoheal.dev/autoheal"
)

// metrics are what polls tell: present values. Each yields its series through add; what is unknown has no sample.
var metrics = map[string]func(d *Driver, add func(value float64, labels ...string)){
	"node_up": func(d *Driver, add func(float64, ...string)) {
		for _, id := range d.nodeIDsLocked() {
			switch d.nodes[id].link {
			case autoheal.LinkUp:
				add(1, "node_id", string(id))
			case autoheal.LinkSilent:
				add(0, "node_id", string(id))
			}
		}
	},
	"gpu_health": func(d *Driver, add func(float64, ...string)) {
		value := map[autoheal.Health]float64{autoheal.HealthOK: 1, autoheal.HealthDegraded: 0.5, autoheal.HealthFailed: 0}
		for _, id := range d.nodeIDsLocked() {
			n := d.nodes[id]
			if n.status == nil || n.link != autoheal.LinkUp {
				continue
			}
			for _, g := range n.status.GPUs {
				if v, known := value[g.Health]; known {
					add(v, "node_id", string(id), "gpu", string(g.UUID), "index", strconv.Itoa(g.Index), "model", g.Model, "simulated", strconv.FormatBool(g.Simulated))
				}
			}
		}
	},
	"gpus_free": func(d *Driver, add func(float64, ...string)) {
		for _, id := range d.nodeIDsLocked() {
			if d.nodes[id].link == autoheal.LinkUp {
				add(float64(d.index.Free(id).GPUs), "node_id", string(id))
			}
		}
	},
	"workload_restarts": func(d *Driver, add func(float64, ...string)) {
		for _, id := range slices.Sorted(maps.Keys(d.workloads)) {
			if w := d.workloads[id]; !w.isParent() {
				add(float64(w.restarts()), "workload_id", string(id))
			}
		}
	},
}

// Metrics implements autoheal.Observer with the present values; history is kept elsewhere.
func (d *Driver) Metrics(_ context.Context, q autoheal.MetricQuery) iter.Seq2[autoheal.Series, error] {
	return func(yield func(autoheal.Series, error) bool) {
		for _, s := range d.sample(q) {
			if !yield(s, nil) {
				return
			}
		}
	}
}

func (d *Driver) sample(q autoheal.MetricQuery) []autoheal.Series {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.clock.Now()
	read := metrics[q.Metric]
	if read == nil || (!q.Until.IsZero() && now.After(q.Until.Add(time.Minute))) {
		return nil
	}
	var out []autoheal.Series
	read(d, func(value float64, pairs ...string) {
		labels := map[string]string{}
		for i := 0; i < len(pairs); i += 2 {
			labels[pairs[i]] = pairs[i+1]
		}
		for k, v := range q.Labels {
			if labels[k] != v {
				return
			}
		}
		out = append(out, autoheal.Series{Name: q.Metric, Labels: labels, Points: []autoheal.Point{{At: now, Value: value}}})
	})
	return out
}
