package drill

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/surface/client"
)

// state is one look at a cluster through its local door.
type state struct {
	Nodes     []nodeState
	Workloads []workloadState
	Incidents []autoheal.Incident // oldest first
	Alerts    []alertState
	Healer    autoheal.HealerStatus
}

// nodeState is what drills need of a node.
type nodeState struct {
	ID         autoheal.NodeID      `json:"id"`
	Status     autoheal.NodeStatus  `json:"status"`
	CordonedBy []string             `json:"cordonedBy"`
	Incident   *autoheal.IncidentID `json:"incident"`
	Simulated  bool                 `json:"simulated"`
}

// workloadState is what drills need of a workload.
type workloadState struct {
	ID         autoheal.WorkloadID    `json:"id"`
	Name       string                 `json:"name"`
	State      autoheal.WorkloadState `json:"state"`
	Node       autoheal.NodeID        `json:"nodeId"`
	Class      autoheal.Class         `json:"class"`
	AtMostOnce bool                   `json:"atMostOnce"`
	Attempt    int                    `json:"attempt"`
	Restarts   int                    `json:"restarts"`
	Ready      bool                   `json:"ready"`
	Paused     *autoheal.Mark         `json:"paused"`
	Incident   *autoheal.IncidentID   `json:"incident"`
	Detail     string                 `json:"detail"`
}

// alertState is what drills need of an alert.
type alertState struct {
	ID       string              `json:"id"`
	Name     string              `json:"name"`
	Severity autoheal.Severity   `json:"severity"`
	Message  string              `json:"message"`
	Source   string              `json:"source"`
	Incident autoheal.IncidentID `json:"incident"`
}

func (st *state) node(id autoheal.NodeID) *nodeState {
	for i := range st.Nodes {
		if st.Nodes[i].ID == id {
			return &st.Nodes[i]
		}
	}
	return nil
}

func (st *state) workload(id autoheal.WorkloadID) *workloadState {
	for i := range st.Workloads {
		if st.Workloads[i].ID == id {
			return &st.Workloads[i]
		}
	}
	return nil
}

// incident returns the latest incident of a kind on a subject, by kind and name.
func (st *state) incident(kind autoheal.FailureKind, subject autoheal.Ref) *autoheal.Incident {
	for i := len(st.Incidents) - 1; i >= 0; i-- {
		if inc := &st.Incidents[i]; inc.Kind == kind && inc.Subject.Kind == subject.Kind && inc.Subject.ID == subject.ID {
			return inc
		}
	}
	return nil
}

// look reads the whole state; each part is true at its own moment, so waiting for a state asks for all of it again.
func (c *cluster) look(ctx context.Context) (*state, error) {
	st := &state{}
	var nodes struct{ Nodes []nodeState }
	var workloads struct{ Workloads []workloadState }
	var incidents struct{ Incidents []autoheal.Incident }
	var alerts struct{ Alerts []alertState }
	limit := map[string]any{"limit": 10000}
	err := errors.Join(
		c.call(ctx, "healer_status", nil, &st.Healer), c.call(ctx, "node_list", nil, &nodes), c.call(ctx, "workload_list", limit, &workloads),
		c.call(ctx, "incident_list", limit, &incidents), c.call(ctx, "alert_list", nil, &alerts),
	)
	if err != nil {
		return nil, err
	}
	st.Nodes, st.Workloads, st.Alerts = nodes.Nodes, workloads.Workloads, alerts.Alerts
	for i := len(incidents.Incidents) - 1; i >= 0; i-- { // newest first
		st.Incidents = append(st.Incidents, incidents.Incidents[i])
	}
	return st, nil
}

// follower turns the stream of changes into one wake-up channel. It is restarted after its cluster was.
type follower struct {
	wake   chan struct{}
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

func follow(cl *client.Client) *follower {
	ctx, cancel := context.WithCancel(context.Background())
	f := &follower{wake: make(chan struct{}, 1), cancel: cancel}
	f.wg.Go(func() {
		for _, err := range cl.Events(ctx, 0) {
			if err != nil {
				return // the healer ended: whoever waits looks again now and then
			}
			select {
			case f.wake <- struct{}{}:
			default:
			}
		}
	})
	return f
}

func (f *follower) stop() {
	f.cancel()
	f.wg.Wait()
}

// lookAgain is how often a state is looked at that nobody announced a change of, such as a file that a workload writes.
const lookAgain = 100 * time.Millisecond

// wait looks at the cluster at every change until done says so. Its deadline is the profile's patience: it never decides
// a result, it only ends a drill that goes nowhere, with the last reason why done was not content.
func (s *Session) wait(ctx context.Context, what string, done func(*state) (bool, string)) (*state, error) {
	deadline := s.cluster.clock.NewTimer(s.profile.Patience)
	defer deadline.Stop()
	why := "nothing could be seen yet"
	for {
		st, err := s.cluster.look(ctx)
		if err == nil {
			var ok bool
			if ok, why = done(st); ok {
				s.observe(st)
				return st, nil
			}
		} else {
			why = err.Error()
		}
		again := s.cluster.clock.NewTimer(lookAgain)
		select {
		case <-s.cluster.changes.wake:
		case <-again.C():
		case <-s.cluster.ended():
			again.Stop()
			return nil, s.cluster.died()
		case <-deadline.C():
			again.Stop()
			return nil, fmt.Errorf("wait for %s: not within %s: %s", what, s.profile.Patience, why)
		case <-ctx.Done():
			again.Stop()
			return nil, ctx.Err()
		}
		again.Stop()
	}
}
