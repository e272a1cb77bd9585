package agent

import (
	"log/slog"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/agent/sense"
	"autoheal.dev/autoheal/internal/agent/shim"
	"autoheal.dev/autoheal/internal/nodeproto"
	"autoheal.dev/autoheal/internal/signal"
)

// listenInterval is how often logs are looked at. An exit looks at once.
const listenInterval = 500 * time.Millisecond

// condLogLost is the condition that says what of the logs nobody has looked at.
const condLogLost = "log_lost"

// listener hears the kernel's log. Lines of the output of attempts are heard by their outputs.
type listener struct {
	catalogue atomic.Pointer[signal.Catalogue]
	rulesHash atomic.Pointer[string] // of the site's own rules; nil = none were given

	mu sync.Mutex
	// mu guards what follows. It is held while the log is read, and taken before Agent.mu.
	kernel *sense.Kernel // nil where the log cannot be read
	ear    *sense.Ear
	failed bool // reading has failed, which was said
}

// openListener loads the catalogue and finds the kernel's log; a node on which it cannot be read says so.
func (a *Agent) openListener() error {
	catalogue, err := signal.Builtin()
	if err != nil {
		return err
	}
	l := &listener{}
	l.catalogue.Store(catalogue)
	l.ear = sense.NewEar(catalogue, signal.KindKernel, a.kernelSays)
	l.kernel, err = sense.OpenKernel(a.opts.KernelLog, filepath.Join(a.dir, "kernel.mark"), a.bootID, a.boot)
	if err != nil {
		a.warn("errors of GPUs and of the machine are not heard: %v", err)
	}
	a.hears = l
	return nil
}

// condRules is the condition that says why a site's own rules are not in force here.
const condRules = "signal_rules"

// hash names the site's rules that were taken, or refused.
func (l *listener) hash() string {
	if h := l.rulesHash.Load(); h != nil {
		return *h
	}
	return ""
}

// takeRules puts the site's own signal rules in force. Rules that do not compile here were checked by a healer of another
// version: those before stay, and the node says so.
func (a *Agent) takeRules(hash string, rules *nodeproto.Rules) {
	l := a.hears
	known := func() bool { return hash == l.hash() || hash != "" && rules == nil }
	if known() { // without the lock, which is held while a log is read: every poll asks, and a late answer is a silence
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if known() {
		return
	}
	catalogue, err := signal.Builtin()
	if err == nil && rules != nil {
		catalogue, err = catalogue.With(signal.Overrides{Rules: rules.Rules, Xid: rules.Xid})
	}
	l.rulesHash.Store(&hash)
	a.mu.Lock()
	n := a.copyNodeLocked()
	if delete(n.Conditions, condRules); err != nil {
		n.Conditions[condRules] = clip("the site's own rules are not in force: "+err.Error(), maxDetail)
	}
	a.setNodeLocked(n)
	a.mu.Unlock()
	if err == nil {
		l.catalogue.Store(catalogue)
		l.ear = sense.NewEar(catalogue, signal.KindKernel, a.kernelSays)
	}
}

// watchLogs looks at all logs again and again until the agent stops.
func (a *Agent) watchLogs() {
	for a.ctx.Err() == nil {
		a.hearKernel()
		a.judgeGPUs()
		a.hearAttempts()
		a.tellLost()
		a.pause(listenInterval)
	}
	a.hears.close(a.log)
}

func (l *listener) close(log *slog.Logger) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.kernel == nil {
		return
	}
	if err := l.kernel.Close(); err != nil {
		log.Warn("kernel's log", slog.Any("error", err))
	}
	l.kernel = nil
}

// hearKernel takes in what the kernel has said since the last time.
func (a *Agent) hearKernel() {
	l := a.hears
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.kernel == nil {
		return
	}
	err := l.kernel.Read(l.ear.Hear)
	if err != nil && !l.failed {
		a.log.Warn("kernel's log", slog.Any("error", err))
	}
	l.failed = err != nil
	l.ear.Tell(a.boot())
}

// hearAttempts takes in what the attempts have written.
func (a *Agent) hearAttempts() {
	a.mu.Lock()
	var live []*attempt
	a.liveLocked(func(at *attempt) { live = append(live, at) })
	a.mu.Unlock()
	for _, at := range live {
		lost := at.output.hear(maxHear)
		at.output.tell(a.boot())
		a.mu.Lock()
		at.unheard = lost
		a.mu.Unlock()
	}
}

// tellLost says on the node how much of the logs that it keeps was never looked at, in steps that are worth telling.
func (a *Agent) tellLost() {
	l := a.hears
	l.mu.Lock()
	lost := int64(l.ear.Dropped())
	if l.kernel != nil {
		lost += l.kernel.Lost
	}
	l.mu.Unlock()
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, at := range a.attempts {
		lost += at.unheard
	}
	if _, told := a.node.Conditions[condLogLost]; lost == 0 && !told {
		return
	}
	n := a.copyNodeLocked()
	if delete(n.Conditions, condLogLost); lost > 0 {
		n.Conditions[condLogLost] = "about " + strconv.FormatInt(roundDown(lost), 10) + " lines of logs were written faster than they could be looked at"
	}
	a.setNodeLocked(n)
}

// roundDown keeps the first digit: 34,567 becomes 30,000.
func roundDown(n int64) int64 {
	unit := int64(1)
	for n/unit >= 10 {
		unit *= 10
	}
	return n / unit * unit
}

// kernelSays tells a signal of the kernel's log: on the GPU that it names, on the attempt whose control group it names, or
// on the node. What is about somebody else's control group, or a GPU of the machine that a node with simulated GPUs does
// not have, is none of this node's business.
func (a *Agent) kernelSays(s autoheal.Signal, at time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	node := autoheal.Ref{Kind: autoheal.RefNode, ID: a.opts.Name, Generation: a.bootID}
	switch s.Subject.Kind {
	case autoheal.RefGPU:
		ref, known := a.gpuRefLocked(s)
		if !known && a.opts.SimulateGPUs != "" {
			return
		}
		s.Subject, s.Also = ref, append(s.Also, node)
	case autoheal.RefWorkload:
		ref, mine := a.groupRefLocked(s.Fields["task_memcg"])
		if !mine {
			return
		}
		s.Subject, s.Also = ref, append(s.Also, node)
	default:
		s.Subject = node
	}
	a.emitLocked(s, at)
}

// groupRefLocked names the attempt that a control group is of, by the group's path as the kernel writes it.
func (a *Agent) groupRefLocked(path string) (autoheal.Ref, bool) {
	if path == "" {
		return autoheal.Ref{}, false
	}
	for k, at := range a.attempts {
		own := at.spec.Group.MemoryPath(at.spec.Host)
		if at.spec.Group.Exists() && own != "" && strings.Contains(path+"/", own+"/") {
			return autoheal.Ref{Kind: autoheal.RefWorkload, ID: string(k.workload), Generation: strconv.Itoa(k.attempt)}, true
		}
	}
	return autoheal.Ref{}, false
}

// gpuRefLocked names the GPU of a PCI address; what is not in the inventory is named by its place in this node.
func (a *Agent) gpuRefLocked(s autoheal.Signal) (ref autoheal.Ref, known bool) {
	ref = autoheal.Ref{Kind: autoheal.RefGPU, ID: a.opts.Name + "/" + s.Subject.ID, Generation: a.bootID}
	gpu, known := signal.NewInventory(a.node.GPUs).Find(s.Subject.ID)
	if known {
		ref.ID = gpu.UUID
		if s.Fields != nil {
			s.Fields["uuid"], s.Fields["index"] = gpu.UUID, gpu.Index
		}
	}
	return ref, known
}

// emitLocked tells a signal and keeps it for listings, as long as it stands.
func (a *Agent) emitLocked(s autoheal.Signal, at time.Duration) {
	s.At, s.SeenAt = time.Time{}, time.Time{} // ages cross the wire, dates do not
	a.noteFaultLocked(s, at)
	a.standing = slices.DeleteFunc(a.standing, func(c change) bool {
		return c.signal.Rule == s.Rule && c.signal.Subject == s.Subject && c.signal.Excerpt == s.Excerpt || a.expired(c)
	})
	c := change{at: at, signal: &s}
	if !s.Clears {
		a.keepStandingLocked(c)
	}
	a.ring.add(c)
	a.wakeLocked()
}

// maxStanding and standingBudget bound the signals that a listing repeats, by number and by bytes; the latest are kept.
const (
	maxStanding    = 128
	standingBudget = answerBudget / 2
)

// keepStandingLocked keeps a signal for listings. What workloads say makes room first: none can write away what the kernel
// said.
func (a *Agent) keepStandingLocked(c change) {
	c.size = jsonSize(a.renderLocked(c, c.at))
	a.standing = append(a.standing, c)
	used := 0
	for _, c := range a.standing {
		used += c.size
	}
	for len(a.standing) > maxStanding || used > standingBudget {
		i := max(slices.IndexFunc(a.standing, func(c change) bool { return c.signal.Subject.Kind == autoheal.RefWorkload }), 0)
		used -= a.standing[i].size
		a.standing = slices.Delete(a.standing, i, i+1)
	}
}

func (a *Agent) expired(c change) bool { return c.signal.TTL > 0 && a.boot()-c.at > c.signal.TTL }

// explain adds to the exit of an attempt that ended badly why it did: by what it wrote, and by what the kernel said of its
// GPUs meanwhile.
func (a *Agent) explain(at *attempt, x *shim.Exited) {
	at.output.hear(-1)
	a.hearKernel()
	v := autoheal.Verdict(signal.Judge(append(a.kernelFound(at, time.Duration(x.Started)), at.output.found()...)))
	if v.Failure == autoheal.FailureNone {
		return
	}
	x.Exit.Verdict = &v
	if v.Failure == autoheal.FailureOOMGPU && x.Exit.OOM == autoheal.OOMNone {
		x.Exit.OOM = autoheal.OOMGPU
	}
}

// kernelFound returns what the kernel has said since an attempt started of its GPUs, and of what ends a whole machine.
func (a *Agent) kernelFound(at *attempt, started time.Duration) []signal.Found {
	l := a.hears
	l.mu.Lock()
	all := l.ear.Found()
	l.mu.Unlock()
	a.mu.Lock()
	defer a.mu.Unlock()
	inventory := signal.NewInventory(a.node.GPUs)
	return slices.DeleteFunc(all, func(f signal.Found) bool {
		if f.Boot < started {
			return true
		}
		if f.Subject.Kind != autoheal.RefGPU {
			return f.Severity != signal.Critical || f.Failure != autoheal.FailureHostHW && f.Failure != autoheal.FailureHostSW
		}
		gpu, ok := inventory.Find(f.Subject.ID)
		return !ok || !slices.Contains(at.spec.Start.GPUs, autoheal.GPUID(gpu.UUID))
	})
}
