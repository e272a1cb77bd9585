package policy

import (
	"slices"
	"strings"
	"testing"
	"time"

	"autoheal.dev/autoheal"
)

// TestClassify is behaviour A1: label, then match, then priority, then medium; a gang is at least high.
func TestClassify(t *testing.T) {
	p := mustLoad(t, Source{Data: []byte(`
autoHeal:
  classes:
    critical: {match: [{labels: "app=vllm"}, {namespace: "prod-*", name: "llm-?"}]}
    low: {match: [{name: "llm-*"}]}
`)}).Policy
	label := func(v string) map[string]string { return map[string]string{autoheal.LabelClass: v} }
	for name, tc := range map[string]struct {
		in    ClassInput
		class autoheal.Class
		rule  string
	}{
		"label":                   {ClassInput{Labels: label("low"), Priority: new(99)}, autoheal.Low, "label"},
		"label on a gang":         {ClassInput{Labels: label("low"), GangSize: 4}, autoheal.Low, "label"},
		"wrong label":             {ClassInput{Labels: label("urgent")}, autoheal.Medium, "default"},
		"match by label":          {ClassInput{Labels: map[string]string{"app": "vllm", "x": "y"}, Priority: new(1)}, autoheal.Critical, "classes.critical[0]"},
		"match by both globs":     {ClassInput{Namespace: "prod-eu", Name: "llm-1"}, autoheal.Critical, "classes.critical[1]"},
		"only one of both globs":  {ClassInput{Namespace: "dev", Name: "llm-1"}, autoheal.Low, "classes.low[0]"},
		"match says low, gang":    {ClassInput{Namespace: "dev", Name: "llm-1", GangSize: 8}, autoheal.Low, "classes.low[0]"},
		"priority 90":             {ClassInput{Priority: new(90)}, autoheal.Critical, "priority"},
		"priority 89":             {ClassInput{Priority: new(89)}, autoheal.High, "priority"},
		"priority 60":             {ClassInput{Priority: new(60)}, autoheal.High, "priority"},
		"priority 59":             {ClassInput{Priority: new(59)}, autoheal.Medium, "priority"},
		"priority 30":             {ClassInput{Priority: new(30)}, autoheal.Medium, "priority"},
		"priority 29":             {ClassInput{Priority: new(29)}, autoheal.Low, "priority"},
		"priority 0 was said":     {ClassInput{Priority: new(0)}, autoheal.Low, "priority"},
		"priority below zero":     {ClassInput{Priority: new(-5)}, autoheal.Low, "priority"},
		"nothing said":            {ClassInput{}, autoheal.Medium, "default"},
		"gang":                    {ClassInput{GangSize: 2}, autoheal.High, "gang"},
		"gang of low priority":    {ClassInput{GangSize: 2, Priority: new(5)}, autoheal.High, "gang"},
		"gang of one":             {ClassInput{GangSize: 1}, autoheal.Medium, "default"},
		"gang of higher priority": {ClassInput{GangSize: 2, Priority: new(95)}, autoheal.Critical, "priority"},
	} {
		if class, rule := p.Classify(tc.in); class != tc.class || rule != tc.rule {
			t.Errorf("%s: %s by %s, want %s by %s", name, class, rule, tc.class, tc.rule)
		}
	}
}

// TestKindAndAtMostOnce is behaviour A2.
func TestKindAndAtMostOnce(t *testing.T) {
	p := Default()
	for name, tc := range map[string]struct {
		class autoheal.Class
		in    autoheal.Settings
		kind  autoheal.WorkloadKind
		once  bool
	}{
		"critical":                {autoheal.Critical, autoheal.Settings{}, autoheal.KindService, false},
		"high":                    {autoheal.High, autoheal.Settings{}, autoheal.KindJob, true},
		"critical job":            {autoheal.Critical, autoheal.Settings{Kind: autoheal.KindJob}, autoheal.KindJob, true},
		"low service":             {autoheal.Low, autoheal.Settings{Kind: autoheal.KindService}, autoheal.KindService, false},
		"service, label says yes": {autoheal.Critical, autoheal.Settings{AtMostOnce: new(true)}, autoheal.KindService, true},
		"job, label says no":      {autoheal.Low, autoheal.Settings{AtMostOnce: new(false)}, autoheal.KindJob, false},
	} {
		kind := p.Kind(tc.class, tc.in)
		if once := AtMostOnce(kind, tc.in); kind != tc.kind || once != tc.once {
			t.Errorf("%s: %s, at most once %v", name, kind, once)
		}
	}
	if !AtMostOnce("", autoheal.Settings{}) || !AtMostOnce("cron", autoheal.Settings{}) {
		t.Error("an unknown kind may not run twice")
	}
}

func workload(c autoheal.Class, once bool, o autoheal.WorkloadOptions) *autoheal.Workload {
	return &autoheal.Workload{Class: c, AtMostOnce: once, Options: o}
}

// TestGraceAndObjective is behaviour A4 and B2.
func TestGraceAndObjective(t *testing.T) {
	early := Default()
	late := mustLoad(t, Source{Flags: map[string]string{"autoHeal.node.earlyMove": "false"}}).Policy
	grace := func(d time.Duration) autoheal.WorkloadOptions { return autoheal.WorkloadOptions{Grace: d} }
	for name, tc := range map[string]struct {
		p         *Policy
		w         *autoheal.Workload
		grace     time.Duration
		objective time.Duration
	}{
		"critical service":                    {early, workload(autoheal.Critical, false, autoheal.WorkloadOptions{}), 30 * time.Second, time.Minute},
		"critical service, no early move":     {late, workload(autoheal.Critical, false, autoheal.WorkloadOptions{}), 2 * time.Minute, time.Minute},
		"critical at most once":               {early, workload(autoheal.Critical, true, autoheal.WorkloadOptions{}), 2 * time.Minute, time.Minute},
		"critical with a long objective":      {early, workload(autoheal.Critical, false, autoheal.WorkloadOptions{Objective: 10 * time.Minute}), 2 * time.Minute, 10 * time.Minute},
		"critical with a tiny objective":      {early, workload(autoheal.Critical, false, autoheal.WorkloadOptions{Objective: 10 * time.Second}), 15 * time.Second, 10 * time.Second},
		"high service":                        {early, workload(autoheal.High, false, autoheal.WorkloadOptions{}), 2 * time.Minute, 5 * time.Minute},
		"medium":                              {early, workload(autoheal.Medium, true, autoheal.WorkloadOptions{}), 2 * time.Minute, 15 * time.Minute},
		"low":                                 {early, workload(autoheal.Low, true, autoheal.WorkloadOptions{}), 2 * time.Minute, time.Hour},
		"unknown class counts as medium":      {early, workload("", true, autoheal.WorkloadOptions{}), 2 * time.Minute, 15 * time.Minute},
		"label downward":                      {early, workload(autoheal.High, true, grace(40*time.Second)), 40 * time.Second, 5 * time.Minute},
		"label below three probes":            {early, workload(autoheal.High, true, grace(time.Second)), 15 * time.Second, 5 * time.Minute},
		"label upward":                        {early, workload(autoheal.Low, true, grace(20*time.Minute)), 20 * time.Minute, time.Hour},
		"label above the objective":           {early, workload(autoheal.High, true, grace(20*time.Minute)), 290 * time.Second, 5 * time.Minute},
		"label of a critical service upward":  {early, workload(autoheal.Critical, false, grace(5*time.Minute)), 50 * time.Second, time.Minute},
		"label of a critical service down":    {early, workload(autoheal.Critical, false, grace(20*time.Second)), 20 * time.Second, time.Minute},
		"label, critical at most once":        {early, workload(autoheal.Critical, true, grace(5*time.Minute)), 2 * time.Minute, time.Minute},
		"label, objective below the minimum":  {early, workload(autoheal.Critical, false, autoheal.WorkloadOptions{Grace: time.Minute, Objective: 12 * time.Second}), 15 * time.Second, 12 * time.Second},
		"objective label does not hurry jobs": {early, workload(autoheal.High, true, autoheal.WorkloadOptions{Objective: time.Minute}), 2 * time.Minute, time.Minute},
	} {
		if g := tc.p.Grace(tc.w); g != tc.grace {
			t.Errorf("%s: grace %v, want %v", name, g, tc.grace)
		}
		if o := tc.p.Objective(tc.w); o != tc.objective {
			t.Errorf("%s: objective %v, want %v", name, o, tc.objective)
		}
	}
}

// TestSubmitWarnings: a wish that cannot be kept is said with the numbers, and others are not warned about.
func TestSubmitWarnings(t *testing.T) {
	untrusted := mustLoad(t, Source{Flags: map[string]string{"autoHeal.fence.trustSelfStop": "false"}}).Policy
	command := mustLoad(t, Source{Flags: map[string]string{"autoHeal.fence.trustSelfStop": "false", "autoHeal.fence.command": "[off]"}}).Policy
	for name, tc := range map[string]struct {
		p    *Policy
		w    *autoheal.Workload
		want []string // parts of the only warning; none = no warning
	}{
		"critical service":      {Default(), workload(autoheal.Critical, false, autoheal.WorkloadOptions{}), nil},
		"high job":              {Default(), workload(autoheal.High, true, autoheal.WorkloadOptions{}), nil},
		"low job":               {Default(), workload(autoheal.Low, true, autoheal.WorkloadOptions{}), nil},
		"critical at most once": {Default(), workload(autoheal.Critical, true, autoheal.WorkloadOptions{}), []string{"objective of 1m", "class critical", "cannot be met on silence alone", "grace 2m", "fence wait 1m30s", "make 2m10s", autoheal.LabelAtMostOnce}},
		"hasty high job":        {Default(), workload(autoheal.High, true, autoheal.WorkloadOptions{Objective: 100 * time.Second}), []string{"objective of 1m40s", "make 2m10s"}},
		"hasty high service":    {Default(), workload(autoheal.High, false, autoheal.WorkloadOptions{Objective: 100 * time.Second}), []string{"objective of 1m40s", "grace 2m", autoheal.LabelObjective, "at least 2m10s"}},
		"grace not kept":        {Default(), workload(autoheal.High, true, autoheal.WorkloadOptions{Grace: time.Second}), []string{autoheal.LabelGrace + " 1s is not kept", "used as 15s", "15s (three probe intervals) to 4m50s"}},
		"nothing can prove it":  {untrusted, workload(autoheal.Low, true, autoheal.WorkloadOptions{}), []string{"held until a person confirms", "autoHeal.fence.command"}},
		"a command proves it":   {command, workload(autoheal.Low, true, autoheal.WorkloadOptions{}), nil},
		"service, untrusted":    {untrusted, workload(autoheal.Critical, false, autoheal.WorkloadOptions{}), nil},
	} {
		got := tc.p.SubmitWarnings(tc.w)
		if len(tc.want) == 0 {
			if len(got) != 0 {
				t.Errorf("%s: %q", name, got)
			}
			continue
		}
		if len(got) != 1 {
			t.Errorf("%s: %d warnings: %q", name, len(got), got)
			continue
		}
		for _, part := range tc.want {
			if !strings.Contains(got[0], part) {
				t.Errorf("%s: no %q in %q", name, part, got[0])
			}
		}
	}
}

// TestMode is behaviour D6: KIND.STEP, then STEP, then KIND, then the profile; the label only lowers.
func TestMode(t *testing.T) {
	p := mustLoad(t, Source{Data: []byte(`
autoHeal:
  autonomy: {gpu_failure: suggest, reboot: act, gpu_failure.migrate: approve, node_fault: act, preempt: observe}
`)}).Policy
	act, serve := Default().WithProfile(ProfileAct), Default().WithProfile(ProfileServe)
	const kind = autoheal.GPUFailure
	for name, tc := range map[string]struct {
		p     *Policy
		kind  autoheal.FailureKind
		step  Step
		label autoheal.HealMode
		want  autoheal.HealMode
	}{
		"kind and step":               {p, kind, StepMigrate, "", autoheal.HealApprove},
		"step before kind":            {p, kind, StepReboot, "", autoheal.HealAct},
		"kind":                        {p, kind, StepCordon, "", autoheal.HealSuggest},
		"profile":                     {p, autoheal.CrashLoop, StepRestart, "", autoheal.HealAct},
		"kind raises the profile":     {p, autoheal.NodeFault, StepDrain, "", autoheal.HealAct},
		"advice is the weaker of two": {p, kind, StepAdvice, "", autoheal.HealSuggest},
		"label lowers":                {p, kind, StepReboot, autoheal.HealObserve, autoheal.HealObserve},
		"label does not raise":        {p, kind, StepCordon, autoheal.HealAct, autoheal.HealSuggest},
		"label off":                   {p, kind, StepReboot, autoheal.HealOff, autoheal.HealOff},
		"unknown label does nothing":  {p, kind, StepReboot, "maybe", autoheal.HealObserve},
		"alerts wait for nobody":      {p, kind, StepAlertHardware, autoheal.HealObserve, autoheal.HealAct},
		"off silences alerts":         {p, kind, StepAlert, autoheal.HealOff, autoheal.HealOff},
		"act: advice":                 {act, kind, StepAdvice, "", autoheal.HealAct},
		"act: preempt":                {act, autoheal.ResourceExhaustion, StepPreempt, "", autoheal.HealAct},
		"act: replace asks":           {act, kind, StepReplace, "", autoheal.HealApprove},
		"serve: advice":               {serve, kind, StepAdvice, "", autoheal.HealApprove},
		"serve: verb drain":           {serve, kind, Step(autoheal.Drain), "", autoheal.HealApprove},
		"serve: verb uncordon":        {serve, kind, Step(autoheal.Uncordon), "", autoheal.HealAct},
		"no profile is serve":         {&Policy{}, kind, StepReboot, "", autoheal.HealApprove},
	} {
		if got := tc.p.Mode(tc.kind, tc.step, tc.label); got != tc.want {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
	}
	asks := map[Step]bool{StepPreempt: true, StepScaleDown: true, StepAdvice: true, StepResetGPU: true, StepReboot: true, StepIsolate: true, StepDrain: true, StepReplace: true}
	for _, s := range Steps() {
		if got := serve.Mode(kind, s, "") == autoheal.HealApprove; got != asks[s] {
			t.Errorf("serve asks before %s: %v, want %v", s, got, asks[s])
		}
	}
	if Default().Profile != ProfileServe || serve.Profile == act.Profile {
		t.Error("WithProfile changed what it was called on, or the default is not the careful one")
	}
}

// TestLadders: the default ladders are what a file may say, and a configured one replaces its kind alone.
func TestLadders(t *testing.T) {
	for _, k := range autoheal.FailureKinds() {
		l := Default().Ladder(k)
		file := "autoHeal: {ladders: {" + string(k) + ": [" + strings.Join(words(l), ", ") + "]}}"
		if p := mustLoad(t, Source{Data: []byte(file)}).Policy; !slices.Equal(p.Ladder(k), l) {
			t.Errorf("%s: %v", k, p.Ladder(k))
		}
		for _, s := range fittingSteps[k] {
			if !slices.Contains(Steps(), s) {
				t.Errorf("%s: %s is no step", k, s)
			}
		}
	}
	p := mustLoad(t, Source{Data: []byte("autoHeal: {ladders: {crash_loop: [pause, alert]}}")}).Policy
	if got := p.Ladder(autoheal.CrashLoop); !slices.Equal(got, []Step{StepPause, StepAlert}) {
		t.Errorf("crash_loop = %v", got)
	}
	p.Ladder(autoheal.NodeOffline)[0] = StepAlert
	if got := p.Ladder(autoheal.NodeOffline)[0]; got != StepCordon {
		t.Errorf("a caller changed the default ladder to start with %s", got)
	}
}

// TestRestarts is the waiting of behaviour E3 and the small numbers around it.
func TestRestarts(t *testing.T) {
	p := Default()
	var waits []time.Duration
	for n := 1; n <= 8; n++ {
		waits = append(waits, p.RestartWait(workload(autoheal.High, true, autoheal.WorkloadOptions{}), n))
	}
	s := time.Second
	if want := []time.Duration{5 * s, 10 * s, 20 * s, 40 * s, 80 * s, 160 * s, 300 * s, 300 * s}; !slices.Equal(waits, want) {
		t.Errorf("waits %v, want %v", waits, want)
	}
	critical := workload(autoheal.Critical, false, autoheal.WorkloadOptions{MaxRestarts: new(0)})
	if a, b := p.RestartWait(critical, 1), p.RestartWait(critical, 2); a != s || b != 10*s {
		t.Errorf("critical waits %v, %v", a, b)
	}
	if p.MaxRestarts(critical) != 0 || p.MaxRestarts(workload(autoheal.Low, true, autoheal.WorkloadOptions{})) != 3 {
		t.Error("max restarts")
	}
	none := mustLoad(t, Source{Flags: map[string]string{"autoHeal.workload.restartBackoff": "none"}}).Policy
	if none.RestartWait(critical, 1) != 0 || none.RestartWait(critical, 9) != 0 {
		t.Error("none waits")
	}
	constant := mustLoad(t, Source{Flags: map[string]string{"autoHeal.workload.restartBackoff": "{kind: constant, initial: 7s}"}}).Policy
	if constant.Workload.RestartBackoff.Wait(1) != 7*s || constant.Workload.RestartBackoff.Wait(50) != 7*s {
		t.Error("constant is not")
	}
	if p.Dwell(autoheal.Critical) != 15*s || p.Dwell(autoheal.Low) != time.Minute {
		t.Error("dwell")
	}
	if p.RungDeadline(15*s) != 10*s || p.RungDeadline(15*time.Minute) != 5*time.Minute {
		t.Error("rung deadline")
	}
}

// TestBudgets is behaviour D4 for pools of all sizes.
func TestBudgets(t *testing.T) {
	b := Default().Budgets.Disrupt
	for whole, want := range map[int][3]int{0: {1, 2, 1}, 1: {1, 2, 1}, 19: {1, 2, 1}, 20: {1, 2, 1}, 40: {2, 4, 1}, 1000: {50, 100, 1}} {
		if got := [3]int{b.AtOnce(whole), b.InHour(whole), b.InDomain(whole)}; got != want {
			t.Errorf("of %d: %v, want %v", whole, got, want)
		}
	}
}

// TestMaintenanceWindows: by name, glob, domain and label; the start is inside, the end is not.
func TestMaintenanceWindows(t *testing.T) {
	from := time.Date(2026, 1, 31, 22, 0, 0, 0, time.UTC)
	to := from.Add(time.Hour)
	node := &autoheal.Node{ID: "n1", Labels: map[string]string{"pool": "a"}, Domains: []autoheal.Domain{"rack/r1"}}
	for sel, covers := range map[string]bool{"n1": true, "n*": true, "n2": false, "rack=r1": true, "rack=r2": false, "pool=a": true, "pool=b": false, "": false} {
		p := &Policy{Maintenance: []Maintenance{{Nodes: sel, From: from, To: to}}}
		for at, in := range map[time.Time]bool{from.Add(-1): false, from: true, to.Add(-1): true, to: false} {
			if m, got := p.InMaintenance(node, at); got != (in && covers) || got != (m.Nodes != "") {
				t.Errorf("%q at %v: %v", sel, at, got)
			}
		}
	}
}
