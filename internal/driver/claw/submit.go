package claw

import (
	"context"
	"fmt"
	"maps"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"autoheal.dev/autoheal"
)

// Submit implements autoheal.Workloads.
func (d *Driver) Submit(ctx context.Context, id autoheal.ActionID, s autoheal.Spec) (autoheal.WorkloadID, error) {
	op := "submit " + s.Name
	if id == "" {
		return "", &autoheal.Error{Kind: autoheal.ErrInvalid, Op: op, Detail: "a submit needs an action ID"}
	}
	set, problems := checkSpec(s)
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.started || d.runCtx.Err() != nil || d.closing {
		return "", &autoheal.Error{Kind: autoheal.ErrUnavailable, Op: op, Detail: "the driver does not take workloads now"}
	}
	if old, known := d.bySubmit[id]; known {
		if !sameSpec(d.workloads[old].spec, s) {
			return "", &autoheal.Error{Kind: autoheal.ErrConflict, Op: op, Detail: fmt.Sprintf("the ID %s was used to submit %s with another spec", id, old)}
		}
		return old, nil
	}
	problems = append(problems, d.checkAgainstFleet(s, set)...)
	_, _, kind, atMostOnce := d.opts.Classify(s, set)
	if set.Replicas > 1 && atMostOnce {
		problems = append(problems, &autoheal.Error{Op: "label " + autoheal.LabelReplicas, Detail: fmt.Sprintf(
			"an at-most-once workload (a %s is one unless %s is false) has one replica", kind, autoheal.LabelAtMostOnce)})
	}
	if len(problems) > 0 {
		return "", joinProblems(op, problems)
	}
	w := d.newWorkload(id, s)
	rows := []row{putMeta(metaCounter, strconv.FormatUint(d.counter+1, 10)), putWorkload(w)}
	var e effect
	if w.isParent() {
		e = d.childrenEffect(w, w.replicas, nil)
	} else {
		w.attempt = 1
		rows[1] = putWorkload(w)
		first := d.nextAttempt(w, nil, causeSubmit)
		first.action = id
		e = effect{rows: []row{putAttempt(first)}, apply: func(time.Time) { d.beginLocked(w, first) }}
	}
	if err := d.saveLocked(ctx, append(rows, e.rows...)...); err != nil {
		return "", &autoheal.Error{Kind: autoheal.ErrUnavailable, Op: op, Err: err}
	}
	d.counter++
	d.adoptLocked(w)
	e.apply(w.created)
	if w.isParent() {
		d.retellLocked(w, w.created)
	}
	return w.id, nil
}

// newWorkload makes the workload of a spec. A service whose labels speak of replicas is scaled from the start: it runs as
// children only.
func (d *Driver) newWorkload(id autoheal.ActionID, s autoheal.Spec) *workload {
	w := &workload{
		id: autoheal.WorkloadID(fmt.Sprintf("wl-%06d", d.counter+1)), submit: id, spec: s, desired: autoheal.DesiredRunning,
		replicas: notScaled, created: d.clock.Now(), attempts: map[int]*attempt{},
	}
	if w.spec.Name == "" {
		w.spec.Name = string(w.id)
	}
	w.set, _ = autoheal.ParseLabels(s.Labels)
	if _, said := s.Labels[autoheal.LabelReplicas]; said && (w.set.Replicas != 1 || s.Labels[autoheal.LabelReplicas] != "1") {
		w.replicas, w.attempt = w.set.Replicas, 1
	}
	return w
}

// sameSpec compares as stored: the default name is not a difference.
func sameSpec(stored, s autoheal.Spec) bool {
	if s.Name == "" {
		s.Name = stored.Name
	}
	return text(stored) == text(s) || reflect.DeepEqual(stored, s)
}

func joinProblems(op string, problems []*autoheal.Error) error {
	lines := make([]string, len(problems))
	for i, p := range problems {
		lines[i] = p.Error()
	}
	return &autoheal.Error{Kind: autoheal.ErrInvalid, Op: op, Detail: strings.Join(lines, "; ")}
}

var envName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// Bounds of a spec: far above any real machine, so that sums do not overflow.
const (
	maxGPUs     = 1024
	maxMemoryMB = 1 << 30
	maxCPU      = 1 << 16
	maxRuntimeS = 10 * 365 * 24 * 3600
	maxSpecText = 128 << 10
)

// checkSpec finds everything that is wrong with a spec by itself, each with its key.
func checkSpec(s autoheal.Spec) (autoheal.Settings, []*autoheal.Error) {
	set, problems := autoheal.ParseLabels(s.Labels)
	refuse := func(key, format string, args ...any) {
		problems = append(problems, &autoheal.Error{Kind: autoheal.ErrInvalid, Op: key, Detail: fmt.Sprintf(format, args...)})
	}
	if s.Name != "" {
		if err := autoheal.CheckName(s.Name); err != nil {
			problems = append(problems, err)
		}
	}
	between := func(key string, v, most int64) {
		if v < 0 || v > most {
			refuse(key, "%d: use 0 to %d", v, most)
		}
	}
	between("gpus", int64(s.GPUs), maxGPUs)
	between("gpuMemoryMb", s.GPUMemoryMB, maxMemoryMB)
	between("memoryMb", s.MemoryMB, maxMemoryMB)
	between("maxRuntimeSeconds", s.MaxRuntimeSeconds, maxRuntimeS)
	if s.Priority != nil {
		between("priority", int64(*s.Priority), 100)
	}
	if math.IsNaN(s.CPUCores) || s.CPUCores < 0 || s.CPUCores > maxCPU {
		refuse("cpuCores", "%v: use 0 to %d", s.CPUCores, maxCPU)
	}
	switch {
	case strings.TrimSpace(s.Image) == "":
		refuse("image", "say which image; %q runs the command as a process of the node", autoheal.ImageHost)
	case s.Image == autoheal.ImageHost && len(s.Command) == 0:
		refuse("command", "image %q needs a command", autoheal.ImageHost)
	}
	for _, k := range slices.Sorted(maps.Keys(s.Env)) {
		if !envName.MatchString(k) {
			refuse("env", "%q is not the name of a variable", k)
		}
		if strings.ContainsRune(s.Env[k], 0) {
			refuse("env", "the value of %s holds a NUL byte", k)
		}
	}
	for _, arg := range slices.Concat(s.Command, s.Args) {
		if strings.ContainsRune(arg, 0) {
			refuse("command", "an argument holds a NUL byte")
			break
		}
	}
	if h := set.Options.Health; h != nil && h.Kind == autoheal.CheckExec && s.Image != autoheal.ImageHost {
		refuse("label "+autoheal.LabelHealth, "exec needs image %q: what hangs inside a container cannot be ended; use http or tcp", autoheal.ImageHost)
	}
	if p := set.Options.Progress; p != nil && p.Kind == autoheal.CheckFile && s.Image != autoheal.ImageHost && !strings.HasPrefix(p.File, "/") {
		refuse("label "+autoheal.LabelProgress, "%q: in a container name the file from its root", p.File)
	}
	if set.Gang != "" && set.Replicas > 1 {
		refuse("label "+autoheal.LabelGang, "a member of a gang has one replica")
	}
	if n := len(text(s)); n > maxSpecText {
		refuse("spec", "it has %d bytes, at most %d are taken", n, maxSpecText)
	}
	return set, problems
}

// sockets are where agents look for a container runtime.
const sockets = "/var/run/docker.sock, /run/podman/podman.sock, $XDG_RUNTIME_DIR/podman/podman.sock"

// checkAgainstFleet finds what contradicts the other workloads or can run nowhere.
func (d *Driver) checkAgainstFleet(s autoheal.Spec, set autoheal.Settings) []*autoheal.Error {
	var problems []*autoheal.Error
	if s.Image != "" && s.Image != autoheal.ImageHost && len(d.nodes) > 0 && !d.anyRuntime() {
		problems = append(problems, &autoheal.Error{Op: "image", Detail: fmt.Sprintf(
			"%q needs a container runtime and no node has one (looked for %s); use image %q or install Docker or Podman",
			s.Image, sockets, autoheal.ImageHost)})
	}
	if set.Gang == "" {
		return problems
	}
	for _, id := range slices.Sorted(maps.Keys(d.gangs[set.Gang])) {
		o := d.gangs[set.Gang][id]
		if o.desired == autoheal.DesiredCancelled {
			continue
		}
		if o.set.GangSize != set.GangSize {
			problems = append(problems, &autoheal.Error{Op: "label " + autoheal.LabelGangSize, Detail: fmt.Sprintf(
				"%d, but %s says the gang %s has %d", set.GangSize, o.id, set.Gang, o.set.GangSize)})
		}
		if o.set.Rank == set.Rank {
			problems = append(problems, &autoheal.Error{Op: "label " + autoheal.LabelRank, Detail: fmt.Sprintf(
				"rank %d of the gang %s is %s already", set.Rank, set.Gang, o.id)})
		}
	}
	return problems
}

func (d *Driver) anyRuntime() bool {
	for _, n := range d.nodes {
		if n.status == nil || len(n.status.Runtimes) > 0 {
			return true // a node that has not told yet may have one: it stays pending then
		}
	}
	return false
}

// Spec implements autoheal.Workloads.
func (d *Driver) Spec(_ context.Context, id autoheal.WorkloadID) (autoheal.Spec, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	w := d.workloads[id]
	if w == nil {
		return autoheal.Spec{}, &autoheal.Error{Kind: autoheal.ErrNotFound, Op: "read spec of " + string(id), Detail: "no such workload"}
	}
	return cloneSpec(w.spec), nil
}

func cloneSpec(s autoheal.Spec) autoheal.Spec {
	s.Command, s.Args = slices.Clone(s.Command), slices.Clone(s.Args)
	s.Env, s.Labels = maps.Clone(s.Env), maps.Clone(s.Labels)
	return s
}

// Lineage implements autoheal.Workloads.
func (d *Driver) Lineage(_ context.Context, id autoheal.WorkloadID) ([]autoheal.Workload, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	w := d.workloads[id]
	if w == nil {
		return nil, &autoheal.Error{Kind: autoheal.ErrNotFound, Op: "read lineage of " + string(id), Detail: "no such workload"}
	}
	out := make([]autoheal.Workload, 0, len(w.attempts))
	for _, a := range w.sorted() {
		out = append(out, *d.workloadViewLocked(w, a))
	}
	return out, nil
}
