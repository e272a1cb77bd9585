package claw

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/clock"
	"autoheal.dev/autoheal/internal/nodeproto"
	"autoheal.dev/autoheal/internal/openclaw"
	"autoheal.dev/autoheal/internal/place"
	"autoheal.dev/autoheal/internal/store"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Component is the registry's name for store.DB.Migrate.
const Component = "registry"

// Options configure a Driver. Operator, DB and Classify are required.
type Options struct {
	Operator openclaw.Operator
	DB       *store.DB
	Clock    clock.Clock
	Logger   *slog.Logger
	Epoch    uint64 // this healer's life; agents refuse lower ones
	BootID   string // of the healer's host, kept for diagnosis

	ProbeInterval time.Duration // 5 s by default
	ProbeTimeout  time.Duration // 2 s by default
	SelfStop      time.Duration // lease length handed to the agents; 0 = workloads do not stop themselves

	// Classify gives class, the rule that gave it, kind and whether at most one copy may run (behaviour A1, A2).
	Classify func(s autoheal.Spec, set autoheal.Settings) (class autoheal.Class, rule string, kind autoheal.WorkloadKind, atMostOnce bool)
	// Approve decides about a node that asks to join: its name and, at the second approval, the commands it declares.
	// nil approves nothing; Pending and ApproveNode are then the way in.
	Approve func(name string, declared []string) bool

	// Rules gives the site's own signal rules, for the agents, under a name that changes with them; nil or "" for none.
	Rules func() (hash string, rules nodeproto.Rules)

	// Programs gives the site's own programs for repairs; nil for none.
	Programs func() Programs

	ClusterName   string
	NominationTTL time.Duration // 60 s by default
}

func (o *Options) defaults() {
	if o.Clock == nil {
		o.Clock = clock.Real{}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.ProbeInterval <= 0 {
		o.ProbeInterval = 5 * time.Second
	}
	if o.ProbeTimeout <= 0 {
		o.ProbeTimeout = 2 * time.Second
	}
	if o.NominationTTL <= 0 {
		o.NominationTTL = time.Minute
	}
	if o.Rules == nil {
		o.Rules = func() (string, nodeproto.Rules) { return "", nodeproto.Rules{} }
	}
	if o.Programs == nil {
		o.Programs = func() Programs { return Programs{} }
	}
	if o.Approve == nil {
		o.Approve = func(string, []string) bool { return false }
	}
}

// Driver is a fleet. It is safe for concurrent use.
type Driver struct {
	opts  Options
	clock clock.Clock
	log   *slog.Logger
	op    openclaw.Operator

	wg     sync.WaitGroup
	kickCh chan struct{} // wakes reconcile; one waiting wake-up is enough
	pollN  sequence

	mu sync.Mutex
	// mu guards what follows.
	started   bool
	runCtx    context.Context // ends with Stop
	stop      context.CancelFunc
	startedAt time.Time
	longest   time.Duration // lease that a node may hold from a life before
	epoch     uint64        // highest seen
	counter   uint64        // of workload IDs
	resumed   bool          // the life before ended by an orderly shutdown
	closing   bool          // an orderly shutdown is under way: nothing new is placed

	nodes       map[autoheal.NodeID]*node
	byDevice    map[string]*node
	workloads   map[autoheal.WorkloadID]*workload
	bySubmit    map[autoheal.ActionID]autoheal.WorkloadID
	gangs       map[autoheal.GangID]map[autoheal.WorkloadID]*workload
	children    map[autoheal.WorkloadID]map[autoheal.WorkloadID]*workload
	pending     map[autoheal.WorkloadID]bool // the current attempt waits for a place
	nominations map[autoheal.WorkloadID]*nomination
	accepted    map[autoheal.ActionID]autoheal.Verb
	acceptedIDs []autoheal.ActionID // oldest first
	index       *place.Index
	active      map[autoheal.NodeID]map[attemptRef]bool // attempts with a node that are not known to have ended
	replaced    map[autoheal.WorkloadID]bool            // scaled services whose own attempt has to give way to the children
	draining    map[autoheal.NodeID]bool
	dirty       map[attemptRef]bool            // observations that are not saved yet
	work        map[attemptRef]bool            // attempts whose start or stop has to be sent
	forgets     map[attemptRef]autoheal.NodeID // ended attempts that a node may forget
	strays      map[attemptRef]*autoheal.Workload
	inflight    map[string]autoheal.NodeID // invokes under way, by what they are for
	load        map[autoheal.NodeID]int    // how many of them per node
	retryAt     map[string]time.Time       // not before; by the same keys
	shunned     map[autoheal.NodeID]time.Time
	busyGPUs    map[autoheal.GPUID]time.Time
	changed     chan struct{} // closed and replaced whenever an attempt changes

	connected   bool // to the gateway
	connectedAt time.Time
	synced      bool
	syncBy      time.Time
	watch       *watcher
}

var (
	_ autoheal.Cluster   = (*Driver)(nil)
	_ autoheal.Workloads = (*Driver)(nil)
	_ autoheal.Captures  = (*Driver)(nil)
)

// New returns a driver that does nothing until Start.
func New(o Options) *Driver {
	o.defaults()
	return &Driver{
		opts: o, clock: o.Clock, log: o.Logger, op: o.Operator, epoch: o.Epoch,
		kickCh:      make(chan struct{}, 1),
		changed:     make(chan struct{}),
		nodes:       map[autoheal.NodeID]*node{},
		byDevice:    map[string]*node{},
		workloads:   map[autoheal.WorkloadID]*workload{},
		bySubmit:    map[autoheal.ActionID]autoheal.WorkloadID{},
		gangs:       map[autoheal.GangID]map[autoheal.WorkloadID]*workload{},
		children:    map[autoheal.WorkloadID]map[autoheal.WorkloadID]*workload{},
		pending:     map[autoheal.WorkloadID]bool{},
		nominations: map[autoheal.WorkloadID]*nomination{},
		accepted:    map[autoheal.ActionID]autoheal.Verb{},
		index:       place.New(),
		active:      map[autoheal.NodeID]map[attemptRef]bool{},
		replaced:    map[autoheal.WorkloadID]bool{},
		draining:    map[autoheal.NodeID]bool{},
		dirty:       map[attemptRef]bool{},
		work:        map[attemptRef]bool{},
		forgets:     map[attemptRef]autoheal.NodeID{},
		strays:      map[attemptRef]*autoheal.Workload{},
		inflight:    map[string]autoheal.NodeID{},
		load:        map[autoheal.NodeID]int{},
		shunned:     map[autoheal.NodeID]time.Time{},
		busyGPUs:    map[autoheal.GPUID]time.Time{},
		retryAt:     map[string]time.Time{},
	}
}

// Start brings the registry's tables up to date, reads them and begins to listen. Its work goes on until Stop, or until
// ctx ends.
func (d *Driver) Start(ctx context.Context) error {
	if d.opts.Operator == nil || d.opts.DB == nil || d.opts.Classify == nil {
		return errors.New("start fleet driver: Operator, DB and Classify are required")
	}
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	if err := d.opts.DB.Migrate(ctx, Component, files); err != nil {
		return fmt.Errorf("start fleet driver: %w", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.started {
		return errors.New("start fleet driver: started before")
	}
	if err := d.loadLocked(ctx); err != nil {
		return fmt.Errorf("start fleet driver: %w", err)
	}
	d.started = true
	d.startedAt = d.clock.Now()
	d.runCtx, d.stop = context.WithCancel(context.WithoutCancel(ctx))
	for _, n := range d.nodes {
		n.lastSeen, n.linkSince = d.startedAt, d.startedAt
		d.indexNodeLocked(n)
	}
	d.resumeLocked(ctx)
	events, unsubscribe := d.op.Events()
	d.wg.Go(func() { defer unsubscribe(); d.gatewayLoop(events) })
	d.wg.Go(d.reconcileLoop)
	for _, n := range d.nodes {
		d.followLocked(n)
	}
	context.AfterFunc(ctx, d.stop)
	return nil
}

// Stop ends the driver's own work and waits for it. Workloads go on.
func (d *Driver) Stop(ctx context.Context) error {
	d.mu.Lock()
	if !d.started {
		d.mu.Unlock()
		return nil
	}
	d.stop()
	if d.watch != nil {
		d.watch.wake()
	}
	d.mu.Unlock()
	done := make(chan struct{})
	go func() { d.wg.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stop fleet driver: %w", ctx.Err())
	}
}

// Capabilities returns what the driver can do. Which repairs are among it depends on the site's programs.
func (d *Driver) Capabilities() autoheal.Capabilities {
	return autoheal.Capabilities{Verbs: d.verbs(), GPUQuarantine: true, ExactFit: true, SelfStop: d.opts.SelfStop > 0}
}

func (d *Driver) verbs() []autoheal.Verb { return d.verbsWith(d.opts.Programs()) }

func (d *Driver) verbsWith(p Programs) []autoheal.Verb {
	return append([]autoheal.Verb{
		autoheal.Cordon, autoheal.Uncordon, autoheal.QuarantineGPU, autoheal.ReleaseGPU, autoheal.Drain, autoheal.Stop,
		autoheal.Start, autoheal.Scale, autoheal.Pause, autoheal.Resume, autoheal.Collect, autoheal.Refresh,
	}, p.repairVerbs()...)
}

// kick wakes the reconcile loop.
func (d *Driver) kick() {
	select {
	case d.kickCh <- struct{}{}:
	default:
	}
}

// sleep waits for dur or the end of ctx and reports whether dur passed.
func (d *Driver) sleep(ctx context.Context, dur time.Duration, wake <-chan struct{}) bool {
	t := d.clock.NewTimer(dur)
	defer t.Stop()
	select {
	case <-t.C():
		return true
	case <-wake:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// LastSeen returns when a node last answered. Node events carry it only when something else has changed.
func (d *Driver) LastSeen(id autoheal.NodeID) (time.Time, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.nodes[id]
	if n == nil {
		return time.Time{}, false
	}
	return n.lastSeen, true
}
