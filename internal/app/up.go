package app

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/clock"
	"autoheal.dev/autoheal/internal/driver/claw"
	"autoheal.dev/autoheal/internal/gateway"
	"autoheal.dev/autoheal/internal/heal"
	"autoheal.dev/autoheal/internal/journal/sqlite"
	"autoheal.dev/autoheal/internal/nodeproto"
	"autoheal.dev/autoheal/internal/policy"
	"autoheal.dev/autoheal/internal/store"
	"autoheal.dev/autoheal/internal/surface/httpapi"
	"autoheal.dev/autoheal/internal/tool"
)

// UpOptions configure an embedded cluster.
type UpOptions struct {
	Data    string            // directory of everything that lasts; made when only it is missing
	Config  string            // configuration file; "" = config.yaml of Data when it is there
	Set     map[string]string // settings that beat the file and the environment, by dotted key
	Socket  string            // of the local door; "" = Data/api.sock
	Version string

	Nodes        int      // n1 … nN
	Racks        int      // nodes are spread over so many racks; 0 = no rack label
	SimulateGPUs string   // "N" or "N:MODEL" for every node
	KernelLog    string   // directory of a file per node that stands for its kernel log
	WorkloadUser string   // whom workloads run as, when we are root
	MemoryMB     int64    // of each node; 0 = the machine's
	CgroupPrefix string   // "" = autoheal
	Ephemeral    bool     // agents and workloads end with this process, however it ends
	NodeArgs     []string // appended to every agent's command line

	Self    string // this binary
	Out     io.Writer
	Verbose bool
	// Ready is called once every node answers.
	Ready func()
	// Exit ends the process at once, for when the healer has stalled and nothing in it can be trusted to stop in order.
	// nil = nobody watches the healer.
	Exit func(code int)
}

// up is a running embedded cluster while it is being put together.
type up struct {
	opt     UpOptions
	hurry   context.Context // ends when nobody is to be waited for any more
	clock   clock.Clock
	logger  *slog.Logger
	loaded  *policy.Loaded                // of the start
	inForce atomic.Pointer[policy.Loaded] // the same after a reload, but for the times of this life
	policy  atomic.Pointer[policy.Policy] // in force; the door reads it while a reload writes it
	stops   stops
	names   []string

	lock    *store.Lock
	reserve *store.Reservation
	db      *store.DB
	journal *sqlite.Store
	epoch   uint64
	token   string
	gateway *gateway.Gateway
	driver  *claw.Driver
	engine  *heal.Engine
	notify  *notifier
	failed  chan error
}

// Up runs an embedded cluster on this machine until ctx ends: gateway, agents, healer, local door. When hurry ends, too,
// it no longer waits for anybody. A signal on reload reads the configuration again.
func Up(ctx, hurry context.Context, reload <-chan os.Signal, opt UpOptions) error {
	u := &up{opt: opt, hurry: hurry, clock: clock.NewSteady(), failed: make(chan error, 4)}
	level := slog.LevelWarn
	if opt.Verbose {
		level = slog.LevelInfo
	}
	u.logger = slog.New(slog.NewTextHandler(opt.Out, &slog.HandlerOptions{Level: level}))
	for n := range opt.Nodes {
		u.names = append(u.names, "n"+strconv.Itoa(n+1))
	}
	began := u.clock.Now()
	for _, step := range []func(context.Context) error{
		u.openConfig, u.openNotify, u.openState, u.openGateway, u.openDriver, u.openEngine, u.openDoor, u.openAgents,
	} {
		if err := step(ctx); err != nil {
			return errors.Join(err, u.stops.run(hurry))
		}
	}
	err := u.serve(ctx, reload, began)
	return errors.Join(err, u.stops.run(hurry))
}

func (u *up) openConfig(context.Context) error {
	if u.opt.Nodes < 1 {
		return fmt.Errorf("a cluster needs at least one node: --nodes %d", u.opt.Nodes)
	}
	loaded, err := LoadConfig(u.opt.Config, u.opt.Data, u.opt.Set)
	if err != nil {
		return err
	}
	u.loaded = loaded
	u.policy.Store(loaded.Policy)
	u.inForce.Store(loaded)
	for _, setting := range loaded.NotYet() {
		fmt.Fprintln(u.opt.Out, setting.Notice())
	}
	return nil
}

// openState takes the directory: its lock, the number of this life, the reserve, the database and the journal.
func (u *up) openState(ctx context.Context) error {
	var err error
	if u.lock, err = store.LockDir(u.opt.Data, u.clock); err != nil {
		return err
	}
	u.stops.add("lock", time.Second, func(context.Context) error { return u.lock.Close() })
	if u.reserve, err = store.Reserve(u.opt.Data, store.ReserveBytes); err != nil {
		u.logger.LogAttrs(ctx, slog.LevelWarn, "the disk has no room for the reserve", slog.Any("err", err))
	}
	if u.db, err = store.Open(ctx, filepath.Join(u.opt.Data, "state.db"), store.Options{Logger: u.logger}); err != nil {
		return fmt.Errorf("open state: %w", err)
	}
	u.stops.add("database", 5*time.Second, func(context.Context) error { return u.db.Close() })
	if u.journal, err = sqlite.Open(ctx, u.db, sqlite.Options{Logger: u.logger, AfterAppend: crashAt(os.Getenv("AUTOHEAL_CRASH_AT"))}); err != nil {
		return fmt.Errorf("open journal: %w", err)
	}
	u.stops.add("journal", 5*time.Second, func(context.Context) error { return u.journal.Close() })
	for _, n := range u.journal.Notices() {
		fmt.Fprintln(u.opt.Out, "notice:", n)
	}
	u.epoch, err = u.lock.NextEpoch(u.journal.Head().Epoch)
	return err
}

// crashAt makes the hook of crash tests: "record:17" kills this process right after that record is durable.
func crashAt(spec string) func(first, last uint64) {
	n, ok := strings.CutPrefix(spec, "record:")
	if !ok {
		return nil
	}
	at, err := strconv.ParseUint(n, 10, 64)
	if err != nil {
		return nil
	}
	return func(first, last uint64) {
		if first <= at && at <= last {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // the signal is on its way
		}
	}
}

// openGateway starts the embedded gateway, on the port of the life before so that agents that live on find it again.
func (u *up) openGateway(ctx context.Context) error {
	pairs, err := gateway.OpenPairFile(filepath.Join(u.opt.Data, "pairing.json"))
	if err != nil {
		return err
	}
	if u.token, err = nodeToken(filepath.Join(u.opt.Data, "node.token")); err != nil {
		return err
	}
	addrFile := filepath.Join(u.opt.Data, "gateway.addr")
	listen := "127.0.0.1:0"
	known, err := os.ReadFile(addrFile)
	switch {
	case err == nil && len(strings.TrimSpace(string(known))) > 0:
		listen = strings.TrimSpace(string(known))
	case u.anyAgent():
		return fmt.Errorf("start gateway: agents of this directory run and %s does not say where they dial: stop them first", addrFile)
	}
	open := func(listen string) error {
		u.gateway = gateway.New(gateway.Options{
			Listen: listen, Token: u.token, Clock: u.clock, Logger: u.logger, Store: pairs, Version: u.opt.Version,
			AllowCommands: nodeproto.Commands(), Failed: func(err error) { u.failed <- fmt.Errorf("the gateway stopped listening: %w", err) },
		})
		return u.gateway.Start(ctx)
	}
	if err := open(listen); err != nil {
		if !errors.Is(err, syscall.EADDRINUSE) || u.anyAgent() {
			return fmt.Errorf("start gateway: %w (the agents of this directory dial it there; free the port, or stop them first)", err)
		}
		if err := open("127.0.0.1:0"); err != nil {
			return fmt.Errorf("start gateway: %w", err)
		}
	}
	u.stops.add("gateway", 5*time.Second, u.gateway.Stop)
	if listen == u.gateway.Addr() {
		return nil // written down already
	}
	return os.WriteFile(addrFile, []byte(u.gateway.Addr()+"\n"), 0o600)
}

// anyAgent reports whether an agent of an earlier life runs, also one of a node that this life does not have. Dialling an
// address where nobody listens any more, it would keep its workloads alive for ever, while the healer counts them as
// stopped by their own nodes.
func (u *up) anyAgent() bool {
	entries, err := os.ReadDir(filepath.Join(u.opt.Data, "agents"))
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist) // what cannot be read may hold one
	}
	a := &agents{data: u.opt.Data}
	return slices.ContainsFunc(entries, func(e os.DirEntry) bool { return e.IsDir() && a.running(e.Name()) })
}

func (u *up) openDriver(ctx context.Context) error {
	pol := u.loaded.Policy
	selfStop := pol.Fence.SelfStop
	u.driver = claw.New(claw.Options{
		Operator: u.gateway.Operator(), DB: u.db, Clock: u.clock, Logger: u.logger, Epoch: u.epoch, BootID: bootID(),
		ProbeInterval: pol.Node.ProbeInterval, ProbeTimeout: pol.Node.ProbeTimeout, SelfStop: selfStop,
		Classify: u.classify, Approve: u.approve, Rules: u.rules, Programs: u.programs, ClusterName: pol.Cluster.Name, NominationTTL: pol.Preemption.NominationTTL,
	})
	// It outlives the interrupt: the workloads are ended through it.
	if err := u.driver.Start(context.WithoutCancel(ctx)); err != nil {
		return fmt.Errorf("start fleet driver: %w", err)
	}
	u.stops.add("fleet driver", 5*time.Second, u.driver.Stop)
	return nil
}

// rules are the site's own signal rules, which were checked when the configuration was loaded.
func (u *up) rules() (string, nodeproto.Rules) {
	s := u.policy.Load().Signals
	if len(s.Rules)+len(s.Xid) == 0 {
		return "", nodeproto.Rules{}
	}
	rules := nodeproto.Rules{Rules: s.Rules, Xid: s.Xid}
	text, err := json.Marshal(rules)
	if err != nil { // the configuration holds nothing that JSON cannot
		return "", nodeproto.Rules{}
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8]), rules
}

// programs are the site's own programs for repairs, by the configuration in force.
func (u *up) programs() claw.Programs {
	pol := u.policy.Load()
	timed := func(argv []string, most time.Duration) nodeproto.Program {
		return nodeproto.Program{Argv: argv, TimeoutMS: most.Milliseconds()}
	}
	return claw.Programs{
		Reset: timed(pol.Repair.ResetCommand, pol.Repair.Timeout), Test: timed(pol.Node.ReturnTest.Command, pol.Node.ReturnTest.Timeout),
		Reboot: pol.Repair.RebootCommand, Fence: pol.Fence.Command, RebootTime: pol.Repair.Timeout,
	}
}

// approve admits the nodes of this cluster: those that it starts itself, with the commands of its own agents.
func (u *up) approve(name string, declared []string) bool {
	return slices.Contains(u.names, name)
}

// classify gives a workload its class by the configuration in force.
func (u *up) classify(s autoheal.Spec, set autoheal.Settings) (autoheal.Class, string, autoheal.WorkloadKind, bool) {
	pol := u.policy.Load()
	class, rule := pol.Classify(policy.ClassInput{Labels: s.Labels, Name: s.Name, Priority: s.Priority, GangSize: set.GangSize})
	kind := pol.Kind(class, set)
	return class, rule, kind, policy.AtMostOnce(kind, set)
}

func (u *up) openEngine(ctx context.Context) error {
	pol := u.loaded.Policy.WithProfile(policy.ProfileAct)
	pol.Enabled = pol.Enabled && !u.tooManyStalls()
	opt := heal.Options{
		Cluster: u.driver, Store: u.journal, Clock: u.clock, Logger: u.logger, Policy: pol, Blocked: u.blocked, Round: u.notify.round, Beat: heal.BeatEvery,
		Life: heal.Life{Epoch: u.epoch, Version: u.opt.Version, ConfigHash: u.loaded.Hash(), BootID: bootID(), Cluster: pol.Cluster.Name},
	}
	if u.opt.Exit != nil {
		opt.Stalled = u.stalled
	}
	u.engine = heal.New(opt)
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() {
		err := u.engine.Run(ctx)
		ended <- err
		if err != nil {
			u.failed <- fmt.Errorf("the healer stopped: %w", err)
		}
	}()
	u.stops.add("healer", 10*time.Second, func(ctx context.Context) error {
		cancel()
		select {
		case err := <-ended:
			if errors.Is(err, context.Canceled) { // it was still reading its journal
				return nil
			}
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	return nil
}

// blocked says by a way that needs no disk that nothing is done any more, and gives the reserve back meanwhile.
func (u *up) blocked(err error) {
	if err == nil {
		fmt.Fprintln(u.opt.Out, "the journal can be written again: healing resumes")
		_ = u.reserve.Restore()
		return
	}
	fmt.Fprintf(u.opt.Out, "CRITICAL: journal_unwritable: nothing is healed until the journal can be written: %v\n", err)
	_ = u.reserve.Release()
}

func (u *up) openDoor(ctx context.Context) error {
	socket := cmp.Or(u.opt.Socket, u.policy.Load().API.Socket, filepath.Join(u.opt.Data, "api.sock"))
	door := &httpapi.Server{Socket: socket, Log: u.logger, Env: &tool.Env{
		Cluster: u.driver, Workloads: u.driver, Nodes: joining{u.driver}, Captures: u.driver, Healer: u.engine, Now: u.clock.Now,
		Policy: u.policy.Load, Config: u.inForce.Load,
	}}
	if err := door.Start(ctx); err != nil {
		return fmt.Errorf("open the local door: %w", err)
	}
	u.stops.add("local door", 5*time.Second, door.Stop)
	return nil
}

// openAgents starts the agents and registers the orderly end of what they run, which comes first.
func (u *up) openAgents(context.Context) error {
	a := &agents{self: u.opt.Self, data: u.opt.Data, args: u.agentArgs, logger: u.logger, clock: u.clock}
	if u.opt.Ephemeral {
		r, w, err := os.Pipe()
		if err != nil {
			return fmt.Errorf("make the pipe of an ephemeral cluster: %w", err)
		}
		a.extra = []*os.File{r}
		u.stops.add("ephemeral pipe", time.Second, func(context.Context) error { return errors.Join(r.Close(), w.Close()) })
	}
	a.start(u.names)
	u.stops.add("agents", 10*time.Second, func(ctx context.Context) error { return a.stop(ctx, u.names) })
	u.stops.add("workloads", 90*time.Second, u.stopWorkloads)
	return nil
}

// stopWorkloads ends every workload in order; in a hurry it kills them.
func (u *up) stopWorkloads(ctx context.Context) error {
	patient, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(u.hurry, cancel)()
	if err := u.driver.Shutdown(patient, 10*time.Second); err == nil {
		return nil
	}
	fmt.Fprintln(u.opt.Out, "killing what still runs")
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := u.driver.Shutdown(last, 0); err != nil {
		return fmt.Errorf("%w; what was not stopped goes on: the next 'autoheal up' on this directory finds it and can stop it", err)
	}
	return nil
}

func (u *up) agentArgs(name string) []string {
	args := []string{
		"node", "--gateway", u.gateway.URL(), "--token-file", filepath.Join(u.opt.Data, "node.token"), "--data", u.opt.Data, "--name", name,
		"--embedded",
	}
	add := func(flag, value string) {
		if value != "" && value != "0" {
			args = append(args, flag, value)
		}
	}
	add("--simulate-gpus", u.opt.SimulateGPUs)
	add("--workload-user", u.opt.WorkloadUser)
	add("--cgroup", u.cgroup())
	add("--memory", strconv.FormatInt(u.opt.MemoryMB, 10))
	if u.opt.KernelLog != "" {
		add("--kernel-log", filepath.Join(u.opt.KernelLog, name))
	}
	if u.opt.Racks > 0 {
		n, _ := strconv.Atoi(name[1:])
		add("--labels", fmt.Sprintf("%s=r%d", autoheal.LabelRack, (n-1)%u.opt.Racks+1))
	}
	if u.opt.Ephemeral {
		add("--ephemeral-fd", "3")
	}
	return append(args, u.opt.NodeArgs...)
}

// cgroup is the control group of this cluster's nodes; clusters in other directories have others.
func (u *up) cgroup() string {
	if u.opt.CgroupPrefix != "" {
		return u.opt.CgroupPrefix
	}
	sum := sha256.Sum256([]byte(u.opt.Data))
	return "autoheal-" + hex.EncodeToString(sum[:4])
}

func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(b))
}
