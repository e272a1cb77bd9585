package drill

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"autoheal.dev/autoheal"
)

// Report is the result of a run, in the shape that is shared with other programs. Seconds count from the injection.
type Report struct {
	Version   string `json:"version"`
	Profile   string `json:"profile"`
	Simulated bool   `json:"simulated"` // the GPUs of the clusters are made up
	Drills    []Row  `json:"drills"`
	Passed    int    `json:"passed"`
	Failed    int    `json:"failed"`
	Skipped   int    `json:"skipped"`
	Stalls    int    `json:"stalls"` // times that a healer noticed to have been starved
}

// Row is one drill. Class, times and proof are those of the most urgent workload that was hit; Recoveries has all.
type Row struct {
	Name             string               `json:"name"`
	Kind             autoheal.FailureKind `json:"kind"`
	Class            *autoheal.Class      `json:"class"`
	Expected         string               `json:"expected"`
	Result           *string              `json:"result"` // null: it could not be told, or the drill was skipped
	Passed           bool                 `json:"passed"`
	WithinObjective  *bool                `json:"withinObjective"` // of all workloads that were hit
	ObjectiveSeconds *autoheal.Seconds    `json:"objectiveSeconds"`
	DetectedSeconds  *autoheal.Seconds    `json:"detectedSeconds"`
	SafeSeconds      *autoheal.Seconds    `json:"safeSeconds"`
	RunningSeconds   *autoheal.Seconds    `json:"runningSeconds"`
	Proof            *autoheal.Proof      `json:"proof"`
	Incident         *autoheal.IncidentID `json:"incident"`
	OverlapSeconds   *autoheal.Seconds    `json:"overlapSeconds"` // measured by the drill; null where nothing could overlap
	Stalls           int                  `json:"stalls"`
	TookSeconds      autoheal.Seconds     `json:"tookSeconds"`
	Recoveries       []RecoveryRow        `json:"recoveries"`
	Steps            []StepRow            `json:"steps"`
	Problems         []string             `json:"problems"` // why it failed, one sentence each
	Skipped          string               `json:"skipped,omitempty"`
	Kept             string               `json:"kept,omitempty"` // the directory, when it was asked to be kept
}

// RecoveryRow is one workload that was hit.
type RecoveryRow struct {
	Workload         autoheal.WorkloadID  `json:"workload"`
	Name             string               `json:"name"`
	Class            autoheal.Class       `json:"class"`
	AtMostOnce       bool                 `json:"atMostOnce"`
	End              autoheal.RecoveryEnd `json:"end"`
	From             autoheal.NodeID      `json:"from"`
	To               autoheal.NodeID      `json:"to"`
	Proof            autoheal.Proof       `json:"proof"`
	ObjectiveSeconds autoheal.Seconds     `json:"objectiveSeconds"`
	SafeSeconds      *autoheal.Seconds    `json:"safeSeconds"`
	RunningSeconds   *autoheal.Seconds    `json:"runningSeconds"`
	WithinObjective  *bool                `json:"withinObjective"`
}

// StepRow is one action of the healer.
type StepRow struct {
	At      string             `json:"at"`
	Verb    autoheal.Verb      `json:"verb"`
	Target  string             `json:"target"`
	Outcome *autoheal.Outcome  `json:"outcome"`
	Action  *autoheal.ActionID `json:"action,omitempty"`
}

const stampLayout = "2006-01-02T15:04:05.000Z"

func stamp(t time.Time) string { return t.UTC().Format(stampLayout) }

// WriteJSON writes the report for a program.
func (r *Report) WriteJSON(w io.Writer) error {
	out := *r
	out.Drills = make([]Row, len(r.Drills))
	for i, d := range r.Drills {
		d.Recoveries = append([]RecoveryRow{}, d.Recoveries...)
		d.Steps = append([]StepRow{}, d.Steps...)
		d.Problems = append([]string{}, d.Problems...)
		out.Drills[i] = d
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(out); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

// add takes a row into the report.
func (r *Report) add(row Row) {
	switch {
	case row.Skipped != "":
		r.Skipped++
	case row.Passed:
		r.Passed++
	default:
		r.Failed++
	}
	r.Stalls += row.Stalls
	r.Drills = append(r.Drills, row)
}

// Err returns nil when every drill ended as it had to.
func (r *Report) Err() error {
	if r.Failed > 0 {
		return fmt.Errorf("%d of %d drills failed", r.Failed, len(r.Drills))
	}
	return nil
}
