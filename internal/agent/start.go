package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/agent/cgroup"
	"autoheal.dev/autoheal/internal/agent/shim"
	"autoheal.dev/autoheal/internal/nodeproto"
)

// doStart makes one attempt exist: checked, written down durably, then given to a shim.
func (a *Agent) doStart(ctx context.Context, req nodeproto.StartRequest) (*nodeproto.Accepted, error) {
	if err := a.epoch.admit(req.Epoch); err != nil {
		return nil, err
	}
	if err := checkStart(&req); err != nil {
		return nil, err
	}
	k := key{req.Workload, req.Attempt}
	spec, repeated, err := a.reserve(&req)
	for errors.Is(err, errUnderWay) { // it may fail yet, and no listing names it: neither accepted nor refused
		if _, _, err := a.awaitStart(ctx, k); err != nil {
			return nil, err
		}
		spec, repeated, err = a.reserve(&req)
	}
	if err != nil || repeated {
		return &nodeproto.Accepted{Accepted: repeated, Repeated: repeated}, err
	}
	defer a.release(k)
	dir := a.attemptDir(k)
	err = a.freeGroup(k, spec)
	if err == nil {
		err = a.prepareFolder(dir, spec)
	}
	if err == nil {
		err = a.spawn(k, dir, spec)
	}
	if err != nil { // without a shim nothing runs, so nothing may remain either
		return nil, refuse(nodeproto.CodeNodeFault, "start %s: %v", req.Workload, errors.Join(err, os.RemoveAll(dir)))
	}
	return &nodeproto.Accepted{Accepted: true}, nil
}

// errUnderWay is returned by reserve while another request starts the same attempt.
var errUnderWay = errors.New("a start of this attempt is under way")

func checkStart(req *nodeproto.StartRequest) error {
	s := &req.Spec
	switch {
	case !safeID(req.Workload):
		return refuse(nodeproto.CodeInvalid, "start: %q cannot be the ID of a workload", req.Workload)
	case req.Attempt < 1:
		return refuse(nodeproto.CodeInvalid, "start %s: attempt %d; attempts count from 1", req.Workload, req.Attempt)
	case len(s.Command) == 0 && s.Image == autoheal.ImageHost:
		return refuse(nodeproto.CodeInvalid, "start %s: image %q needs a command", req.Workload, s.Image)
	case s.MemoryMB < 0 || s.CPUCores < 0 || s.MaxRuntimeSeconds < 0:
		return refuse(nodeproto.CodeInvalid, "start %s: negative amounts", req.Workload)
	}
	for _, text := range slices.Concat(s.Command, s.Args, slices.Collect(maps.Keys(s.Env)), slices.Collect(maps.Values(s.Env))) {
		if strings.ContainsRune(text, 0) {
			return refuse(nodeproto.CodeInvalid, "start %s: a NUL byte in the command or the environment", req.Workload)
		}
	}
	for k := range s.Env {
		if k == "" || strings.Contains(k, "=") {
			return refuse(nodeproto.CodeInvalid, "start %s: %q cannot name an environment variable", req.Workload, k)
		}
	}
	return nil
}

// reserve decides, in one step with all other starts, whether the attempt may be started, and holds its number and its
// GPUs until release or until the attempt is listed.
func (a *Agent) reserve(req *nodeproto.StartRequest) (spec *shim.Spec, repeated bool, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	k := key{req.Workload, req.Attempt}
	switch {
	case a.attempts[k] != nil:
		return nil, true, nil
	case a.starting[k] != nil:
		return nil, false, errUnderWay
	}
	if a.boot() < a.shutNode {
		return nil, false, refuse(nodeproto.CodeNodeFault, "start %s: this node is about to be rebooted; nothing was started", req.Workload)
	}
	if floor := a.floors[req.Workload]; req.Attempt <= floor {
		return nil, false, refuse(nodeproto.CodeInvalid, "start %s: attempt %d was given up here; the next is %d", req.Workload, req.Attempt, floor+1)
	}
	for other := range a.attempts {
		if other.workload == req.Workload && other.attempt > req.Attempt {
			return nil, false, refuse(nodeproto.CodeInvalid, "start %s: attempt %d is older than attempt %d, which is here", req.Workload, req.Attempt, other.attempt)
		}
	}
	if req.AtMostOnce && !a.lease.valid(a.boot()) {
		return nil, false, refuse(nodeproto.CodeLeaseExpired, "start %s: contact is not proven (lease %s); nothing was started", req.Workload, a.lease.left(a.boot()))
	}
	indices, err := a.pickGPUsLocked(req)
	if err != nil {
		return nil, false, err
	}
	if spec, err = a.specLocked(req, indices); err != nil {
		return nil, false, err
	}
	a.starting[k] = req
	return spec, false, nil
}

func (a *Agent) release(k key) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.starting, k)
	a.wakeLocked() // a stop may wait for it
}

// pickGPUsLocked returns the indices of the GPUs asked for, none of which another attempt may hold.
func (a *Agent) pickGPUsLocked(req *nodeproto.StartRequest) ([]string, error) {
	held := a.heldLocked()
	indices := []string{}
	for _, id := range req.GPUs {
		i := slices.IndexFunc(a.node.GPUs, func(g autoheal.GPU) bool { return g.UUID == id })
		if i < 0 {
			return nil, refuse(nodeproto.CodeInvalid, "start %s: this node has no GPU %s", req.Workload, id)
		}
		if by, shut := a.shut[id]; shut {
			return nil, refuse(nodeproto.CodeGPUBusy, "start %s: GPU %s is being reset or tested (%s)", req.Workload, id, by)
		}
		if by, busy := held[id]; busy {
			return nil, refuse(nodeproto.CodeGPUBusy, "start %s: GPU %s is held by attempt %d of %s", req.Workload, id, by.attempt, by.workload)
		}
		held[id] = key{req.Workload, req.Attempt} // named twice is busy as well
		indices = append(indices, strconv.Itoa(a.node.GPUs[i].Index))
	}
	return indices, nil
}

func (a *Agent) specLocked(req *nodeproto.StartRequest, gpus []string) (*shim.Spec, error) {
	s := &shim.Spec{
		Start: *req, Node: a.opts.Name, BootID: a.bootID, Credential: a.user, Host: a.host,
		Argv:   slices.Concat(req.Spec.Command, req.Spec.Args),
		Env:    hostEnvironment(req, a.opts.Name, gpus, filepath.Join(a.attemptDir(key{req.Workload, req.Attempt}), shim.WorkDir)),
		Limits: cgroup.Limits{MemoryMB: req.Spec.MemoryMB, CPUMilli: int64(req.Spec.CPUCores * 1000), Pids: a.opts.PidsLimit},

		MaxRuntimeMS: req.Spec.MaxRuntimeSeconds * 1000, LogBytes: a.opts.LogBytes, LogRate: a.opts.LogRate,
		CreatedBoot: int64(a.boot()), CreatedWall: a.clk.Now().UnixMilli(),
	}
	if req.AtMostOnce {
		s.Lease = a.shimLeaseLocked()
	}
	if req.Spec.Image != autoheal.ImageHost {
		return s, a.containLocked(s, req)
	}
	if a.parent.Exists() {
		s.Group = a.parent.Child(fmt.Sprintf("%s.%d", req.Workload, req.Attempt))
	}
	return s, nil
}

// prepareFolder makes the attempt's folder, durably, before anything can run.
func (a *Agent) prepareFolder(dir string, spec *shim.Spec) error {
	mode := os.FileMode(0o700)
	if a.user != nil {
		mode = 0o711
	}
	parent := filepath.Dir(dir)
	if err := os.Mkdir(parent, mode); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make attempt folder: %w", err)
	}
	// What is left of a start that never got its spec file is not an attempt.
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("make attempt folder: %w", err)
	}
	for _, d := range []string{dir, filepath.Join(dir, shim.WorkDir)} {
		if err := os.Mkdir(d, mode); err != nil {
			return fmt.Errorf("make attempt folder: %w", err)
		}
	}
	if a.user != nil {
		if err := os.Chown(filepath.Join(dir, shim.WorkDir), int(a.user.UID), int(a.user.GID)); err != nil {
			return fmt.Errorf("make attempt folder: %w", err)
		}
	}
	if err := errors.Join(shim.Reserve(dir), shim.WriteSpec(dir, spec)); err != nil {
		return err
	}
	return errors.Join(shim.SyncDir(parent), shim.SyncDir(filepath.Dir(parent)))
}

// spawn starts the shim and lists the attempt.
func (a *Agent) spawn(k key, dir string, spec *shim.Spec) error {
	lock, err := shim.Lock(dir)
	if err != nil {
		return err
	}
	defer lock.Close() // the shim has it by then
	client, theirs, err := shim.Pair(a.clk)
	if err != nil {
		return err
	}
	defer theirs.Close()
	errFile, err := os.OpenFile(filepath.Join(dir, "shim.log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return errors.Join(err, client.Close())
	}
	defer errFile.Close()
	argv := append(slices.Clone(a.opts.ShimCommand), "--dir", dir)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append([]string{"PATH=/usr/bin:/bin", "GOTRACEBACK=single", "GOMAXPROCS=1"}, a.opts.ShimEnv...) // a shim waits; more would only spin
	cmd.Dir = "/"
	cmd.Stderr, cmd.ExtraFiles = errFile, []*os.File{lock, theirs}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return errors.Join(fmt.Errorf("start shim: %w", err), client.Close())
	}
	at := a.newAttempt(k, dir, spec)
	a.mu.Lock()
	a.attempts[k] = at
	a.setViewLocked(at, &view{start: &spec.Start, spec: spec, state: nodeproto.AttemptStarting, status: shim.Status{ShimPid: cmd.Process.Pid}, checks: at.checks})
	a.mu.Unlock()
	a.wg.Go(func() { a.follow(at, client, cmd) })
	a.watchChecks(at)
	return nil
}

func (a *Agent) newAttempt(k key, dir string, spec *shim.Spec) *attempt {
	at := &attempt{
		key: k, dir: dir, spec: spec, enforced: spec.Lease.Enforced,
		renew: make(chan struct{}, 1), stops: make(chan shim.Request, 4), done: make(chan struct{}),
	}
	at.health, at.progress = asked(spec.Start.Spec.Labels)
	at.output, at.checks = a.newOutput(k, dir, at.progress), readChecks(at, a.bootID)
	return at
}
