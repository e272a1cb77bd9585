package agent

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/agent/cgroup"
	"autoheal.dev/autoheal/internal/agent/container"
	"autoheal.dev/autoheal/internal/agent/gpu"
	"autoheal.dev/autoheal/internal/agent/shim"
	"autoheal.dev/autoheal/internal/clock"
	"autoheal.dev/autoheal/internal/nodeproto"
	"autoheal.dev/autoheal/internal/openclaw"
)

// Agent is one running node agent.
type Agent struct {
	opts    Options
	log     *slog.Logger
	clk     clock.Clock
	boot    func() time.Duration
	dir     string // DATA/agents/NAME
	life    string
	bootID  string
	started time.Duration

	epoch  *epochFile
	parent cgroup.Group // of the attempts' groups; zero = measured
	host   cgroup.Host
	user   *shim.Credential
	prober *gpu.Prober // nil without nvidia-smi and with simulated GPUs
	hears  *listener
	kept   keptOutput
	jobs   jobBook

	ctx context.Context // of Run: what followers of attempts end with
	wg  sync.WaitGroup  // followers, sources

	resetOne sync.Mutex // held over the reset of a real GPU; taken before mu

	floorMu sync.Mutex // serialises raiseFloor, over its disk write; taken before mu

	mu sync.Mutex
	// mu guards what follows. It is never held over a disk, a socket or a process.
	attempts  map[key]*attempt
	floors    map[autoheal.WorkloadID]int     // highest attempt number that may not be started any more
	starting  map[key]*nodeproto.StartRequest // starts under way
	ring      ring
	standing  []change                    // signals that were told and hold, oldest first
	reported  map[autoheal.GPUID]reported // of the GPUs that the kernel calls broken: what their driver says
	changed   chan struct{}               // closed and replaced at every change
	lease     lease
	listing   listing
	poll      chan struct{} // closed when a newer poll comes
	node      nodeproto.NodeStatus
	busy      map[int64]string
	engines   []container.Engine
	faults    map[string]machineFault // by rule: what the kernel reported of the machine, and counts
	busySeq   int64
	hung      bool                                 // it was told that the driver hangs
	minors    map[autoheal.GPUID]int               // N of /dev/nvidiaN
	shut      map[autoheal.GPUID]autoheal.ActionID // GPUs on which nothing is started, because a job is about them
	shutNode  time.Duration                        // until when nothing at all is started: the node is about to be rebooted
	resetting bool                                 // a real GPU is being reset: nobody else asks the driver meanwhile
}

// Run joins the gateway and serves until ctx ends; then the shims and their workloads go on by themselves (behaviour
// C2). With EphemeralFD they are stopped when that pipe closes. An error says what to do: a wrong token, a node name
// that belongs to another key, a folder in use.
func Run(ctx context.Context, opts Options) error {
	opts, err := opts.withDefaults()
	if err != nil {
		return err
	}
	token, err := readToken(opts.TokenFile)
	if err != nil {
		return err
	}
	a, lock, err := open(opts)
	if err != nil {
		return err
	}
	defer lock.Close()
	identity, err := openclaw.LoadOrCreateIdentity(filepath.Join(a.dir, "key.pem"))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	a.ctx = ctx
	defer a.wg.Wait()
	defer cancel(nil)
	if err := a.adoptAll(); err != nil {
		return err
	}
	a.startWatchers(cancel)
	backoff := openclaw.Backoff{}
	if opts.HealerLock != "" { // on one machine a redial costs nothing, and each refused one renews what is short-lived
		backoff.Max = localRedial
	}
	client := openclaw.NewNodeClient(openclaw.NodeOptions{
		ConnectOptions: openclaw.ConnectOptions{
			URL: opts.Gateway, Token: token, Identity: identity, Name: opts.Name, Version: opts.Version, Platform: "linux", Logger: a.log, Clock: a.clk, OnState: a.connection, Backoff: backoff,
		},
		InstanceID: a.life, Caps: []string{"autoheal"}, Commands: nodeproto.Commands(),
		Handle: a.handle, Immediate: a.immediate,
		Remember: func(command string) bool { return command == nodeproto.CmdStart || command == nodeproto.CmdStop },
	})
	err = client.Run(ctx)
	if errors.Is(context.Cause(ctx), errParentDied) {
		return errors.Join(err, a.stopEverything())
	}
	cancel(nil)
	a.wg.Wait()
	if a.parent.Exists() {
		a.parent.RemoveIfEmpty()
	}
	return err
}

// localRedial is the longest wait between two tries to reach a gateway on this machine.
const localRedial = 500 * time.Millisecond

// open prepares all that needs no gateway. The file returned holds the folder's lock.
func open(opts Options) (*Agent, *os.File, error) {
	bootID, err := opts.bootID()
	if err != nil {
		return nil, nil, err
	}
	user, err := lookUser(opts.WorkloadUser)
	if err != nil {
		return nil, nil, err
	}
	a := &Agent{
		opts: opts, log: opts.Logger.With(slog.String("node", opts.Name)), clk: opts.Clock, boot: opts.Boottime,
		dir: filepath.Join(opts.Data, "agents", opts.Name), life: rand.Text(), bootID: bootID, user: user,
		attempts: map[key]*attempt{}, floors: map[autoheal.WorkloadID]int{}, starting: map[key]*nodeproto.StartRequest{},
		changed: make(chan struct{}), poll: make(chan struct{}), busy: map[int64]string{}, faults: map[string]machineFault{}, reported: map[autoheal.GPUID]reported{},
		minors: map[autoheal.GPUID]int{}, shut: map[autoheal.GPUID]autoheal.ActionID{},
	}
	a.started = a.boot()
	a.kept.dir = filepath.Join(a.dir, "kept")
	if err := a.makeFolders(); err != nil {
		return nil, nil, err
	}
	lock, err := lockFolder(a.dir)
	if err != nil {
		return nil, nil, err
	}
	if a.epoch, err = openEpoch(filepath.Join(a.dir, "epoch")); err != nil {
		return nil, nil, errors.Join(err, lock.Close())
	}
	if err := errors.Join(a.inspect(), a.openListener(), a.kept.open(), a.openJobs()); err != nil {
		return nil, nil, errors.Join(err, lock.Close())
	}
	return a, lock, nil
}

// makeFolders opens the way to the working folders for another user, and nothing else.
func (a *Agent) makeFolders() error {
	mode := os.FileMode(0o700)
	if a.user != nil {
		mode = 0o711
	}
	for _, dir := range []string{filepath.Join(a.opts.Data, "agents"), a.dir, filepath.Join(a.dir, "wl")} {
		if err := os.MkdirAll(dir, mode); err != nil {
			return fmt.Errorf("make agent folder: %w", err)
		}
		if err := os.Chmod(dir, mode); err != nil {
			return fmt.Errorf("make agent folder: %w", err)
		}
	}
	return nil
}

// lockFolder refuses a second agent on one folder: it would adopt the first one's shims.
func lockFolder(dir string) (*os.File, error) {
	path := filepath.Join(dir, "lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock agent folder: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close() // nothing was written to it
		return nil, fmt.Errorf("lock agent folder: another agent runs on %s (%w); stop it, or give this one another --data or --name", dir, err)
	}
	return f, nil
}

// connection is told what became of the connection, from the client's goroutine.
func (a *Agent) connection(state openclaw.ConnState, err error) {
	if err != nil {
		a.log.Debug("gateway connection", slog.String("state", string(state)), slog.Any("error", err))
	}
	now := a.boot() // of before the look: a healer that starts right after it counts from then
	if state != openclaw.StateRefused || a.opts.HealerLock == "" || !healerGone(a.opts.HealerLock) {
		return // silence, resets, refusals by protocol or by a firewall prove nothing about the healer (behaviour C4)
	}
	a.mu.Lock()
	if a.lease.selfStop == 0 { // this life has not heard of it: the shims remember
		a.lease.selfStop = a.rememberedSelfStopLocked()
	}
	renewed := a.lease.refusedAt(now)
	a.mu.Unlock()
	if renewed {
		a.renewAll()
	}
}

// handle runs one command, in a goroutine of its own.
func (a *Agent) handle(ctx context.Context, req openclaw.InvokeRequest) (json.RawMessage, error) {
	if req.Command != nodeproto.CmdPoll {
		defer a.markBusy(req.Command)()
	}
	switch req.Command {
	case nodeproto.CmdPoll:
		return serve(ctx, req.Params, a.doPoll)
	case nodeproto.CmdStatus:
		return serve(ctx, req.Params, a.doStatus)
	case nodeproto.CmdStart:
		return serve(ctx, req.Params, a.doStart)
	case nodeproto.CmdStop:
		return serve(ctx, req.Params, a.doStop)
	case nodeproto.CmdLogs:
		return serve(ctx, req.Params, a.doLogs)
	case nodeproto.CmdCollect:
		return serve(ctx, req.Params, a.doCollect)
	case nodeproto.CmdReset:
		return serve(ctx, req.Params, a.doReset)
	case nodeproto.CmdTest:
		return serve(ctx, req.Params, a.doTest)
	case nodeproto.CmdReboot:
		return serve(ctx, req.Params, a.doReboot)
	case nodeproto.CmdNetwork:
		return serve(ctx, req.Params, a.doNetwork)
	}
	return nil, &openclaw.Error{Code: nodeproto.CodeUnsupported, Message: "this agent has no command " + req.Command}
}

// immediate answers a status request from the read loop, so that a busy node is told from a dead one.
func (a *Agent) immediate(req openclaw.InvokeRequest) (json.RawMessage, bool, error) {
	if req.Command != nodeproto.CmdStatus {
		return nil, false, nil
	}
	answer, err := serve(a.ctx, req.Params, a.doStatus)
	return answer, true, err
}

// serve decodes params, calls fn and encodes its answer.
func serve[In, Out any](ctx context.Context, params json.RawMessage, fn func(context.Context, In) (Out, error)) (json.RawMessage, error) {
	var in In
	if len(params) > 0 {
		if err := json.Unmarshal(params, &in); err != nil {
			return nil, refuse(nodeproto.CodeInvalid, "read parameters: %v", err)
		}
	}
	out, err := fn(ctx, in)
	if err != nil {
		return nil, wireError(err)
	}
	return json.Marshal(out)
}

func refuse(code, format string, args ...any) error {
	return &openclaw.Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// wireError gives an error the code that the healer decides by.
func wireError(err error) error {
	if errors.Is(err, errStaleEpoch) {
		return refuse(nodeproto.CodeStaleEpoch, "%v", err)
	}
	return err
}

func (a *Agent) markBusy(command string) (done func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.busySeq++
	id := a.busySeq
	a.busy[id] = command
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.busy, id)
	}
}

// publishLocked adds a change and wakes the poll.
func (a *Agent) publishLocked(c change) {
	c.at = a.boot()
	a.ring.add(c)
	a.wakeLocked()
}

// wakeLocked lets everything that waits for a change look again.
func (a *Agent) wakeLocked() {
	close(a.changed)
	a.changed = make(chan struct{})
}
