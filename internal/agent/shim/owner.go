package shim

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/agent/cgroup"
	"autoheal.dev/autoheal/internal/clock"
	"autoheal.dev/autoheal/internal/nodeproto"
)

// owner is one shim. Its run loop alone changes state; everything else sends to its channels.
type owner struct {
	spec *Spec
	clk  clock.Clock
	boot func() time.Duration
	work worker

	requests chan asked
	mainGone chan unix.WaitStatus
	allGone  chan struct{}
	alarm    *alarm

	status  Status
	end     ending
	killAt  time.Duration // when SIGKILL is due; 0 = not stopping
	peers   map[*peer]bool
	killing bool
	began   bool // start has returned
	ended   bool // the program itself has ended
	permit  *permit
	limitAt time.Duration
}

// worker is what runs the program: a process of this machine, or a container of an engine.
type worker interface {
	// start begins the program; check is asked immediately before. Its end is told on the owner's channels. It runs beside
	// the owner, because fetching an image takes long.
	start(check func() error) (pid int, err error)
	// abort makes a start that waits for something give up; the program may have been started all the same.
	abort()
	// term asks it to end.
	term()
	// kill ends all of it, and goes on until nothing is left.
	kill()
	// stat reads its counters.
	stat() cgroup.Stat
	// overLimit reports whether measuring found it above its memory limit; a kernel limit never needs it.
	overLimit() bool
	// lastWords returns the last lines of its output; asked after finish.
	lastWords() string
	// finish gives back what start took, after all of it is gone, and closes the output.
	finish() error
}

var errLate = errors.New("the lease ran out before the program was started: nothing was run")

// startResult is what start returned.
type startResult struct {
	pid int
	err error
}

// permit is what the start asks immediately before the program runs; the owner keeps it up to date.
type permit struct {
	boot func() time.Duration

	mu sync.Mutex
	// mu guards what follows.
	lease   Lease
	stopped bool
}

func (p *permit) set(lease Lease, stopped bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lease, p.stopped = lease, stopped
}

var errStopped = errors.New("stopped before the program was started: nothing was run")

func (p *permit) check() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.stopped:
		return errStopped
	case p.lease.Expired(p.boot()):
		return errLate
	}
	return nil
}

// run owns the attempt from start to exit.json.
func (o *owner) run() {
	o.status = Status{State: nodeproto.AttemptStarting, ShimPid: os.Getpid(), Lease: o.spec.Lease}
	o.saveLease()
	o.end.before, o.end.limitMB = o.work.stat(), o.spec.Limits.MemoryMB
	o.permit.set(o.status.Lease, false)
	if ms := o.spec.MaxRuntimeMS; ms > 0 {
		o.limitAt = o.boot() + time.Duration(ms)*time.Millisecond
	}
	started := make(chan startResult, 1)
	go func() {
		pid, err := o.work.start(o.permit.check)
		started <- startResult{pid, err}
	}()
	o.loop(started)
	o.finish()
}

// begun takes the result of the start; false means that nothing runs.
func (o *owner) begun(r startResult) bool {
	o.began = true
	if r.err != nil {
		o.end.startErr = r.err
		if errors.Is(r.err, errLate) && o.end.asked == "" {
			o.end.asked = autoheal.ExitSelfStop
		}
		return false
	}
	o.status.Pid, o.status.Started = r.pid, int64(o.boot())
	o.status.StartTicks, _ = StartTicks(r.pid) // one that is gone already needs no name
	if o.end.asked == "" {
		o.status.State = nodeproto.AttemptRunning
		o.tell()
		return true
	}
	if o.killAt > o.boot() { // a stop came while it was being started
		o.work.term()
	} else {
		o.killRest()
	}
	return true
}

// How often memory is looked at: seldom where the kernel enforces the limit and keeps the peak, once a second where this
// is all there is.
const (
	sampleGroup    = 15 * time.Second
	sampleMeasured = time.Second
)

// loop returns when nothing of the program is left.
func (o *owner) loop(started <-chan startResult) {
	every := sampleGroup
	if !o.spec.Group.Exists() && o.spec.Container == nil {
		every = sampleMeasured
	}
	sample := o.clk.NewTimer(every)
	defer sample.Stop()
	var mainGone <-chan unix.WaitStatus // nil until the start was taken, so that an end never comes before its beginning
	var allGone <-chan struct{}
	for {
		o.arm()
		select {
		case r := <-started:
			if !o.begun(r) {
				return
			}
			mainGone, allGone = o.mainGone, o.allGone
		case a := <-o.requests:
			o.handle(a)
		case <-o.alarm.C:
			o.due()
		case <-sample.C():
			o.measure()
			sample.Reset(every)
		case ws := <-mainGone:
			o.ended, o.end.status = true, ws
			o.killRest() // what the program left behind ends with it
		case <-allGone:
			select {
			case o.end.status = <-mainGone: // was sent before; select does not keep the order
			default:
			}
			return
		}
	}
}

// arm sets the alarm to the next thing that is due.
func (o *owner) arm() {
	var next time.Duration
	sooner := func(at time.Duration) {
		if at > 0 && (next == 0 || at < next) {
			next = at
		}
	}
	switch {
	case o.ended || o.killing:
	case o.killAt > 0:
		sooner(o.killAt)
	default:
		sooner(o.limitAt)
	}
	if l := o.status.Lease; l.Enforced && !o.ended && !o.killing {
		if o.killAt == 0 {
			sooner(max(l.TermAt(), 1))
		} else {
			sooner(time.Duration(l.At)) // a deadline cuts a longer grace short
		}
	}
	if err := o.alarm.set(next); err != nil { // without a timer the deadline cannot be kept: keep the promise now
		o.stop(autoheal.ExitSelfStop, err.Error(), 0)
	}
}

// due looks at the time and does what it calls for.
func (o *owner) due() {
	now, l := o.boot(), o.status.Lease
	switch {
	case o.ended || o.killing:
	case l.Expired(now):
		o.stop(autoheal.ExitSelfStop, "no contact until the deadline", 0)
	case o.killAt > 0 && now >= o.killAt:
		o.killRest()
	case o.killAt == 0 && l.Enforced && now >= l.TermAt():
		o.stop(autoheal.ExitSelfStop, "no contact until the deadline", time.Duration(l.At)-now)
	case o.killAt == 0 && o.limitAt > 0 && now >= o.limitAt:
		o.stop(autoheal.ExitMaxRuntime, "", maxRuntimeGrace)
	}
}

// maxRuntimeGrace is between SIGTERM and SIGKILL at the end of the longest runtime.
const maxRuntimeGrace = 10 * time.Second

// stop asks the program to end, and kills it after grace. The first reason stays; a later stop can only be sooner.
func (o *owner) stop(reason autoheal.ExitReason, detail string, grace time.Duration) {
	if o.ended {
		return
	}
	if o.end.asked == "" {
		o.end.asked, o.end.askedBy = reason, detail
		o.status.State = nodeproto.AttemptStopping
		o.permit.set(o.status.Lease, true)
		o.tell()
	}
	if !o.began { // begun goes on when the start has given up, or has won
		o.killAt = max(o.boot()+grace, 1)
		o.work.abort()
		return
	}
	if grace <= 0 {
		o.killRest()
		return
	}
	at := o.boot() + grace
	if o.killAt == 0 {
		o.work.term()
		o.killAt = at
	}
	o.killAt = min(o.killAt, at)
}

// killRest kills what is left, in a goroutine that ends with the program.
func (o *owner) killRest() {
	if o.killing || !o.began {
		return
	}
	o.killing = true
	go o.work.kill()
}

func (o *owner) measure() {
	if !o.began || o.ended || o.killing {
		return
	}
	o.status.PeakMB = max(o.status.PeakMB, o.work.stat().PeakMB)
	if o.work.overLimit() {
		o.end.measured = true
		o.killRest()
	}
}

func (o *owner) handle(a asked) {
	if a.gone {
		delete(o.peers, a.conn)
		return
	}
	o.peers[a.conn] = true
	switch a.req.Op {
	case OpSubscribe:
		a.conn.subscribed = true
	case OpRenew:
		o.renew(a.req.Lease)
	case OpStop:
		grace := time.Duration(a.req.GraceMS) * time.Millisecond
		if a.req.Force {
			grace = 0
		}
		o.stop(autoheal.ExitReason(a.req.Reason), "", grace)
	case OpStatus:
	}
	o.sendTo(a.conn)
}

// renew extends the deadline, never shortens it: requests may arrive in any order. Switching enforcement off and on
// keeps the deadline that was reached.
func (o *owner) renew(l Lease) {
	l.At = max(l.At, o.status.Lease.At)
	if l == o.status.Lease {
		return
	}
	o.status.Lease = l
	o.permit.set(l, o.end.asked != "")
	o.saveLease()
}

// saveLease is for people who look; nothing reads it back, so it is not synced.
func (o *owner) saveLease() {
	l, text := o.status.Lease, "none\n"
	if l.Enforced {
		text = strconv.FormatInt(l.At, 10) + "\n"
	}
	_ = os.WriteFile(LeaseFile, []byte(text), 0o600) // a full disk must not end a workload
}

// tell sends the status to all who subscribed.
func (o *owner) tell() {
	for p := range o.peers {
		if p.subscribed {
			o.sendTo(p)
		}
	}
}

func (o *owner) sendTo(p *peer) {
	line, err := json.Marshal(o.status)
	if err != nil {
		panic(fmt.Sprintf("shim: status cannot be written as JSON: %v", err)) // it holds numbers and strings only
	}
	if !p.send(append(line, '\n')) {
		delete(o.peers, p)
	}
}

// finish writes down the end, durably, and only then tells.
func (o *owner) finish() {
	o.ended = true // also where nothing ever ran: there is nothing left to stop
	o.end.after = o.work.stat()
	if o.end.after.OOMKills > o.end.before.OOMKills {
		o.end.kernel = kernelOOM(readKernelLog(), o.spec.Group.MemoryPath(o.spec.Host))
	}
	closeErr := o.work.finish()
	now, l := o.boot(), o.spec
	x := &Exited{
		Exit: o.end.exit(), BootID: l.BootID, Pid: o.status.Pid, Started: o.status.Started, Ended: int64(now),
		EndedWall: o.wall(int64(now)), PeakMB: max(o.status.PeakMB, o.end.after.PeakMB), Measured: !l.Group.Exists(),
	}
	if x.Started > 0 {
		x.StartedWall = o.wall(x.Started)
	}
	if x.Exit.Reason == autoheal.ExitCrashed && x.Exit.Detail == "" {
		x.Exit.Detail = o.work.lastWords()
	}
	if closeErr != nil && x.Exit.Detail == "" {
		x.Exit.Detail = closeErr.Error()
	}
	o.writeExited(x)
	o.status.State, o.status.Exited, o.status.PeakMB = nodeproto.AttemptExited, x, x.PeakMB
	o.tell()
}

// writeExited goes on until the end is durable: a full disk may be freed, and nobody else knows how it ended.
func (o *owner) writeExited(x *Exited) {
	for err := WriteExited(".", x); err != nil; err = WriteExited(".", x) {
		if detail := "its end cannot be written down: " + err.Error(); o.status.Detail != detail {
			o.status.State, o.status.Detail = nodeproto.AttemptStopping, detail
			o.tell()
		}
		t := o.clk.NewTimer(time.Second)
		for waiting := true; waiting; {
			select {
			case a := <-o.requests:
				o.handle(a)
			case <-t.C():
				waiting = false
			}
		}
	}
	o.status.Detail = ""
}

// wall is the date of a boot time, in milliseconds, by the one moment at which the agent read both clocks.
func (o *owner) wall(boot int64) int64 {
	return o.spec.CreatedWall + (boot-o.spec.CreatedBoot)/int64(time.Millisecond)
}
