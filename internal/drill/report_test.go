package drill

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"autoheal.dev/autoheal"
)

var update = flag.Bool("update", false, "rewrite golden files")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs (-update rewrites it):\n%s", path, got)
	}
}

// sample is a report with one drill of each outcome.
func sample() *Report {
	injected := time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)
	sec := func(d time.Duration) *autoheal.Seconds { s := autoheal.Seconds(d); return &s }
	done := autoheal.OutcomeDone
	inc := &autoheal.Incident{
		ID: "inc-000001", OpenedAt: injected.Add(700 * time.Millisecond),
		Recoveries: []autoheal.Recovery{
			{
				Workload: "wl-000002", Class: autoheal.High, AtMostOnce: true, End: autoheal.EndRecovered, Proof: autoheal.ProofSelfStop, From: "n1", To: "n2",
				ObjectiveSeconds: autoheal.Seconds(3 * time.Second), FailedAt: injected.Add(-100 * time.Millisecond),
				TimeToSafeSeconds: sec(3 * time.Second), TimeToRunningSeconds: sec(4100 * time.Millisecond),
			},
			{
				Workload: "wl-000001", Class: autoheal.Critical, End: autoheal.EndRecovered, Proof: autoheal.ProofNone, From: "n1", To: "n3",
				ObjectiveSeconds: autoheal.Seconds(time.Minute), FailedAt: injected.Add(-100 * time.Millisecond),
				TimeToSafeSeconds: sec(4 * time.Second), TimeToRunningSeconds: sec(4200 * time.Millisecond),
			},
		},
		Actions: []autoheal.ActionView{{
			ID: "inc-000001/1", Verb: autoheal.Cordon, Target: autoheal.NodeRef("n1"), IntentAt: injected.Add(4 * time.Second), Outcome: &done,
		}},
	}
	st := &state{Workloads: []workloadState{{ID: "wl-000001", Name: "inference"}, {ID: "wl-000002", Name: "training"}}}
	ok := Row{Name: "node-crash", Kind: autoheal.NodeOffline, Expected: Recovered}
	describeIncident(&ok, inc, st, injected, true)
	s := &Session{drill: Drill{Expected: Recovered}, result: Recovered}
	s.fill(&ok)

	bad := Row{Name: "crash-loop", Kind: autoheal.CrashLoop, Expected: Escalated}
	s = &Session{drill: Drill{Expected: Escalated}, result: Recovered, stalls: 1}
	s.problem("wl-000007 was not hit and is gone")
	s.fill(&bad)

	r := &Report{Version: "v1", Profile: "short", Simulated: true}
	for _, row := range []Row{ok, bad, {Name: "oom", Kind: autoheal.CrashLoop, Expected: Recovered, Skipped: "no right to make control groups"}} {
		r.add(row)
	}
	return r
}

func TestReportJSON(t *testing.T) {
	var b bytes.Buffer
	if err := sample().WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	golden(t, "report.json", b.Bytes())
	// The keys that other programs rely on are there also where nothing is known.
	var out struct {
		Drills []map[string]json.RawMessage `json:"drills"`
	}
	if err := json.Unmarshal(b.Bytes(), &out); err != nil {
		t.Fatal(err)
	}
	for _, d := range out.Drills {
		for _, key := range []string{"name", "kind", "class", "expected", "result", "withinObjective", "objectiveSeconds", "detectedSeconds", "safeSeconds", "runningSeconds", "proof", "incident", "steps"} {
			if _, ok := d[key]; !ok {
				t.Errorf("drill %s has no key %s", d["name"], key)
			}
		}
		if string(d["steps"]) == "null" {
			t.Errorf("drill %s has null steps", d["name"])
		}
	}
}

func TestReportTable(t *testing.T) {
	var b bytes.Buffer
	if err := sample().WriteTable(&b); err != nil {
		t.Fatal(err)
	}
	golden(t, "report.txt", b.Bytes())
}

func TestReportErr(t *testing.T) {
	if err := sample().Err(); err == nil || err.Error() != "1 of 3 drills failed" {
		t.Errorf("got %v", err)
	}
	if err := (&Report{Passed: 1, Skipped: 1}).Err(); err != nil {
		t.Errorf("got %v, a skipped drill is no failure", err)
	}
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

func TestReportCannotBeWritten(t *testing.T) {
	if sample().WriteJSON(brokenPipe{}) == nil || sample().WriteTable(brokenPipe{}) == nil {
		t.Error("a report that could not be written was called written")
	}
}

func TestStrict(t *testing.T) {
	missed := false
	for name, tc := range map[string]struct {
		strict bool
		within *bool
		stalls int
		passed bool
	}{
		"lenient":   {false, &missed, 2, true},
		"objective": {true, &missed, 0, false},
		"stall":     {true, nil, 1, false},
		"clean":     {true, nil, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := &Session{drill: Drill{Expected: Cleared}, result: Cleared, stalls: tc.stalls, opt: Options{Strict: tc.strict}}
			row := Row{WithinObjective: tc.within}
			if s.fill(&row); row.Passed != tc.passed {
				t.Errorf("passed = %v, problems %q", row.Passed, row.Problems)
			}
		})
	}
}

func TestNoResultIsAFailure(t *testing.T) {
	s, row := &Session{drill: Drill{Expected: Cleared}}, Row{}
	if s.fill(&row); row.Passed || row.Result != nil {
		t.Errorf("a drill without a result passed: %+v", row)
	}
}

func TestHeadline(t *testing.T) {
	for name, tc := range map[string]struct {
		all  []RecoveryRow
		want int
	}{
		"none":        {nil, -1},
		"most urgent": {[]RecoveryRow{{Class: autoheal.Low}, {Class: autoheal.Critical}, {Class: autoheal.High}}, 1},
		"left alone":  {[]RecoveryRow{{Class: autoheal.Critical, End: autoheal.EndLeftAlone}, {Class: autoheal.High}}, 1},
		"all alone":   {[]RecoveryRow{{Class: autoheal.Critical, End: autoheal.EndLeftAlone}}, -1},
	} {
		t.Run(name, func(t *testing.T) {
			if got := headline(tc.all); got != tc.want {
				t.Errorf("got %d, want %d", got, tc.want)
			}
		})
	}
}

func TestLine(t *testing.T) {
	var b bytes.Buffer
	clk := fixedClock{}
	l := newLine(Options{Live: &b, Clock: clk}, "oom")
	l.say("starting")
	l.end("ok      recovered")
	if got, want := b.String(), "oom           ok      recovered (0.0 s)\n"; got != want {
		t.Errorf("beside a terminal %q, want %q", got, want)
	}
	b.Reset()
	l = newLine(Options{Live: &b, Clock: clk, Terminal: true}, "oom")
	l.end("ok")
	if got, want := b.String(), "\r\x1b[Koom           …      waiting\r\x1b[Koom           ok (0.0 s)\n"; got != want {
		t.Errorf("on a terminal %q, want %q", got, want)
	}
}
