package heal

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/journal"
	"autoheal.dev/autoheal/internal/policy"
)

var update = flag.Bool("update", false, "rewrite the transcripts' expected output; inspect the diff")

// TestTranscripts runs every testdata/transcripts/*.txt. A transcript is a list of blocks: commands, a line "----", and
// what the core decided: its records in words (+ is the time since the start) and the actions that left (->). Lines that
// start with # are prose. The commands are documented at their methods below.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/transcripts/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) { runTranscript(t, f) })
	}
}

func runTranscript(t *testing.T, file string) {
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	var out strings.Builder
	for block := range strings.SplitSeq(strings.TrimRight(string(data), "\n"), "\n\n") {
		input, _, _ := strings.Cut(strings.Trim(block, "\n"), "\n----")
		out.WriteString(input)
		w.out.Reset()
		isProse := true
		for line := range strings.SplitSeq(input, "\n") {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
				isProse = false
				w.do(line)
			}
		}
		if !isProse {
			out.WriteString("\n----" + strings.TrimRight("\n"+w.out.String(), "\n"))
		}
		out.WriteString("\n\n")
	}
	got := strings.TrimRight(out.String(), "\n") + "\n"
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got != string(data) {
		t.Errorf("%s: the core decides otherwise now; -update rewrites it.\n%s", file, firstDiff(string(data), got))
	}
}

func firstDiff(want, got string) string {
	a, b := strings.Split(want, "\n"), strings.Split(got, "\n")
	for n := range max(len(a), len(b)) {
		x, y := "", ""
		if n < len(a) {
			x = a[n]
		}
		if n < len(b) {
			y = b[n]
		}
		if x != y {
			return fmt.Sprintf("line %d:\n want %s\n got  %s", n+1, x, y)
		}
	}
	return ""
}

// world is a cluster made of values: it obeys actions at once (unless told otherwise) and reports what they lead to.
type world struct {
	t      *testing.T
	core   *Core
	pol    *policy.Policy
	flags  map[string]string
	t0     time.Time
	now    time.Time
	out    bytes.Buffer
	log    []journal.Record
	nodes  map[autoheal.NodeID]*autoheal.Node
	work   map[autoheal.WorkloadID]map[int]*autoheal.Workload
	rooms  map[autoheal.WorkloadID]autoheal.Room // that are kept
	obey   bool
	deaf   map[autoheal.Verb]autoheal.Result // verbs that do not work, and what they answer
	wake   time.Time
	epoch  uint64
	synced bool
	quick  bool               // a large world: the journal is not folded anew after each step, and a start takes the place that it had
	lost   map[[2]string]bool // ways between two nodes on which no probe passes
	said   []autoheal.Signal  // that a listing repeats
}

func newWorld(t *testing.T) *world {
	w := &world{
		t: t, flags: map[string]string{}, t0: time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC), obey: true, epoch: 1,
		nodes: map[autoheal.NodeID]*autoheal.Node{}, work: map[autoheal.WorkloadID]map[int]*autoheal.Workload{}, deaf: map[autoheal.Verb]autoheal.Result{},
		rooms: map[autoheal.WorkloadID]autoheal.Room{},
		lost:  map[[2]string]bool{},
	}
	w.now = w.t0
	w.load()
	w.core = NewCore(Life{Epoch: 1, Version: "test", ConfigHash: "c", BootID: "b", Cluster: "default"}, w.pol)
	return w
}

func (w *world) load() {
	l, err := policy.Load(policy.Source{Flags: w.flags})
	if err != nil {
		w.t.Fatal(err)
	}
	w.pol = l.Policy.WithProfile(policy.ProfileAct)
}

// step feeds the core and carries out what it asks for until it asks for nothing more.
func (w *world) step(in Input) {
	for n := 0; ; n++ {
		if n > 200 && !w.quick {
			w.t.Fatal("the core does not come to rest")
		}
		in.Now = w.now
		r := w.core.Step(in)
		for _, err := range r.Errors {
			w.t.Errorf("illegal: %v", err)
		}
		w.log = append(w.log, r.Records...)
		w.print(r)
		w.wake = r.WakeAt
		if !w.quick {
			w.checkFold()
		}
		in = Input{}
		for _, a := range r.Actions {
			res, evs := w.carryOut(a)
			if res != nil {
				in.Results = append(in.Results, *res)
			}
			in.Events = append(in.Events, evs...)
		}
		if len(in.Results)+len(in.Events) == 0 {
			return
		}
	}
}

func (w *world) print(r Ready) {
	at := func(t time.Time) string { return fmt.Sprintf("+%.3fs", t.Sub(w.t0).Seconds()) }
	for _, rec := range r.Records {
		if text := describe(rec); text != "" {
			fmt.Fprintf(&w.out, "%s %s\n", at(rec.At), strings.TrimSpace(string(rec.Incident)+" "+text))
		}
	}
	for _, a := range r.Actions {
		fmt.Fprintf(&w.out, "-> %s %s %s%s\n", a.ID, a.Verb, a.Target, paramText(a.Params))
	}
	for _, rep := range r.Replies {
		text := rep.Message
		if rep.Err != nil {
			text = string(rep.Err.Kind) + ": " + rep.Err.Error()
		}
		fmt.Fprintf(&w.out, "<- %s\n", text)
	}
}

// checkFold folds the whole journal anew and compares: apply is the only writer of durable state.
func (w *world) checkFold() {
	fresh := newDurable()
	for _, r := range w.log {
		b, err := json.Marshal(r)
		if err != nil {
			w.t.Fatal(err)
		}
		var back journal.Record
		if err := json.Unmarshal(b, &back); err != nil {
			w.t.Fatal(err)
		}
		if err := fresh.apply(back); err != nil {
			w.t.Fatal(err)
		}
	}
	a, _ := json.Marshal(fresh)
	b, _ := json.Marshal(w.core.d)
	if !bytes.Equal(a, b) {
		w.t.Fatalf("folding the journal does not give the core's state:\n fold %s\n core %s", a, b)
	}
}

// do runs one command line: a name, then words and key=value pairs.
func (w *world) do(line string) {
	if w.quoted(line) {
		return
	}
	f := strings.Fields(line)
	words, kv := []string{}, map[string]string{}
	for _, x := range f[1:] {
		if k, v, ok := strings.Cut(x, "="); ok {
			kv[k] = v
		} else {
			words = append(words, x)
		}
	}
	switch f[0] {
	case "config": // config autoHeal.node.autoCordon=false: before or after the start
		maps.Copy(w.flags, kv)
		w.load()
		if w.synced {
			w.step(Input{Policy: &PolicyChange{Policy: w.pol, Hash: "c2", By: "test"}})
		} else {
			w.core = NewCore(w.core.life, w.pol)
		}
	case "nodes": // nodes n1 n2 … [rack=r1] [zone=z1] [gpus=8] [mem=65536] [noselfstop=1]: they answer
		for _, id := range words {
			w.node(id, kv)
		}
	case "run": // run wl-1 on=n1 [class=high] [kind=service] [twice=1] [mem=1000] [gang=g size=2 rank=0] [for=1h] [health=10m] [image=i] [spec=s] [needs=db] [parent=wl]
		for _, id := range words {
			w.run(id, kv)
		}
	case "wait": // wait wl-1 [class=critical] [prio=95] [gpus=2] [gang=g size=2 rank=0]: submitted, and nowhere yet
		kv["on"] = ""
		for _, id := range words {
			w.run(id, kv)
		}
	case "place": // the driver gives what waits its places
		w.send(w.place()...)
	case "sync": // the listing is complete
		w.sync()
	case "silent": // silent n1 n2 …: probes fail, the last contact was [ago=0s] ago
		w.link(words, autoheal.LinkSilent, kv)
	case "up": // up n1 …: they answer again, with what runs there
		w.link(words, autoheal.LinkUp, kv)
	case "exit": // exit wl-1 [attempt=1] [code=1] [signal=SIGKILL] [oom=host_cgroup] [reason=crashed]
		w.exit(words[0], kv)
	case "finding": // finding node_fault node/n1 cause=… [quote=…] [on=n1] [affects=wl-a]: a detector says so
		w.finding(words, kv)
	case "check", "fault", "machine": // see reports
		w.reports(f[0], words, kv)
	case "desire": // desire wl-1 cancelled: its owner wants something else
		a := w.current(words[0])
		a.Desired = autoheal.Desired(words[1])
		if a.Desired == autoheal.DesiredCancelled {
			a.State, a.EndedAt = autoheal.Cancelled, w.now
		}
		w.send(w.workloadEvent(a))
	case "advance": // advance 2m: time passes, timers fire
		w.advance(words[0])
	case "stall": // stall 10s: the healer does not look for so long
		d := mustDuration(w.t, words[0])
		w.now = w.now.Add(d)
		w.step(Input{Late: d})
	case "deaf": // deaf start not_sent unavailable: a verb does not work; deaf start nothing: it never answers
		w.setDeaf(words)
	case "late": // late wl-1: its start, which never answered, is accepted now; every verb works again
		w.late(words[0])
	case "forget": // forget n1 …: they are taken off the books
		for _, id := range words {
			delete(w.nodes, autoheal.NodeID(id))
			ref := autoheal.NodeRef(autoheal.NodeID(id))
			w.send(autoheal.Event{Kind: autoheal.EventGone, Gone: &ref, At: w.now, SeenAt: w.now})
		}
	case "obey": // obey: every verb works again
		clear(w.deaf)
	case "restart": // the healer is killed and comes back; the listing follows
		w.restart()
	case "lossy": // lossy n3 n1 n2: no probe passes between n3 and the others
		w.lossy(words)
	case "lost": // the stream has gaps
		w.send(autoheal.Event{Kind: autoheal.EventLost, At: w.now, SeenAt: w.now})
	case "command": // command pause|resume|release|dismiss|veto|… [target=node/n1] [incident=inc-000001] [by=ann]
		w.command(words[0], kv)
	case "show": // show incidents: their phase, holds and recoveries
		w.show()
	default:
		if w.gpuCommand(f[0], words, kv) {
			return
		}
		w.t.Fatalf("unknown command %q", f[0])
	}
}

func mustDuration(t *testing.T, s string) time.Duration {
	d, err := time.ParseDuration(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func atoi(s string, or int) int {
	if s == "" {
		return or
	}
	n, _ := strconv.Atoi(s)
	return n
}

func (w *world) send(evs ...autoheal.Event) { w.step(Input{Events: evs}) }

func (w *world) node(id string, kv map[string]string) {
	n := &autoheal.Node{
		ID: autoheal.NodeID(id), BootID: "boot-" + id, Source: "sim", Link: autoheal.LinkUp, LinkSince: w.now, LastSeen: w.now, Ready: true, Schedulable: true,
		Labels: map[string]string{}, SelfStop: kv["noselfstop"] == "", Caps: autoheal.Verbs(),
	}
	if r := kv["rack"]; r != "" {
		n.Labels[autoheal.LabelRack] = r
	}
	if z := kv["zone"]; z != "" {
		n.Labels[autoheal.LabelZone] = z
	}
	n.Domains = autoheal.NodeDomains(n.Labels)
	n.Allocatable = autoheal.Resources{CPUMilli: 64000, MemoryMB: int64(atoi(kv["mem"], 65536)), Pids: 10000}
	n.Capacity = n.Allocatable
	for g := range atoi(kv["gpus"], 0) {
		n.GPUs = append(n.GPUs, autoheal.GPU{UUID: autoheal.GPUID(fmt.Sprintf("GPU-%s-%d", id, g)), Index: g, Model: "H100", MemoryMB: 81920, Health: autoheal.HealthOK})
	}
	if before := w.nodes[n.ID]; before != nil { // another listing of the same node
		n.Marks, n.Schedulable = before.Marks, before.Schedulable
	}
	w.nodes[n.ID] = n
	w.send(w.nodeEvent(n))
}

func (w *world) run(id string, kv map[string]string) {
	a := &autoheal.Workload{
		ID: autoheal.WorkloadID(id), Name: id, Image: "host", State: autoheal.Running, Desired: autoheal.DesiredRunning, Attempt: atoi(kv["attempt"], 1), Node: autoheal.NodeID(kv["on"]),
		Ready: true, Class: autoheal.Class(kv["class"]), ClassRule: "label", Kind: autoheal.WorkloadKind(kv["kind"]), AtMostOnce: kv["twice"] == "", Gang: autoheal.GangID(kv["gang"]),
		GangSize: atoi(kv["size"], 0), Rank: atoi(kv["rank"], 0), Request: autoheal.Resources{MemoryMB: int64(atoi(kv["mem"], 1000)), CPUMilli: 1000, GPUs: atoi(kv["gpus"], 0)},
		StartedAt: w.now, SubmittedAt: w.now,
	}
	if a.Class == "" {
		a.Class = autoheal.Medium
	}
	if kv["image"] != "" {
		a.Image = kv["image"]
	}
	if kv["needs"] != "" {
		a.Labels = map[string]string{autoheal.LabelDependsOn: kv["needs"]}
	}
	a.SpecHash, a.Parent = kv["spec"], autoheal.WorkloadID(kv["parent"])
	if f := kv["for"]; f != "" {
		a.StartedAt = w.now.Add(-mustDuration(w.t, f))
	}
	if h := kv["health"]; h != "" { // it has a health check, and so long to pass it for the first time
		a.Options.Health = &autoheal.HealthSpec{Kind: autoheal.CheckTCP, Port: 80, Interval: 10 * time.Second, Timeout: 3 * time.Second, Failures: 3, Startup: mustDuration(w.t, h)}
	}
	a.OriginalMemoryMB = a.Request.MemoryMB
	if n := w.nodes[a.Node]; n != nil && a.Request.GPUs > 0 {
		a.GPUs, _ = w.freeGPUs(n, a.Request.GPUs, nil)
	}
	w.urgency(a, kv)
	if kv["on"] == "" && kv["parent"]+kv["replicas"] == "" {
		a.State, a.Ready, a.StartedAt = autoheal.Pending, false, time.Time{}
	}
	if w.work[a.ID] == nil || a.Attempt == 1 {
		w.work[a.ID] = map[int]*autoheal.Workload{}
	}
	w.work[a.ID][a.Attempt] = a
	w.send(w.workloadEvent(a))
}

func (w *world) nodeEvent(n *autoheal.Node) autoheal.Event {
	c := *n
	c.Marks = slices.Clone(n.Marks)
	return autoheal.Event{Kind: autoheal.EventNode, Node: &c, At: w.now, SeenAt: w.now, Source: "sim"}
}

func (w *world) workloadEvent(a *autoheal.Workload) autoheal.Event {
	c := *a
	return autoheal.Event{Kind: autoheal.EventWorkload, Workload: &c, At: w.now, SeenAt: w.now, Source: "sim"}
}

func (w *world) sync() {
	w.synced = true
	w.send(autoheal.Event{Kind: autoheal.EventSynced, At: w.now, SeenAt: w.now})
}

func (w *world) current(id string) *autoheal.Workload {
	best := 0
	for n := range w.work[autoheal.WorkloadID(id)] {
		best = max(best, n)
	}
	a := w.work[autoheal.WorkloadID(id)][best]
	if a == nil {
		w.t.Fatalf("no workload %s", id)
	}
	return a
}

func (w *world) link(ids []string, to autoheal.LinkState, kv map[string]string) {
	var evs []autoheal.Event
	for _, id := range ids {
		n := w.nodes[autoheal.NodeID(id)]
		n.Link, n.LinkSince, n.Ready = to, w.now, to == autoheal.LinkUp && len(n.Faults()) == 0
		if to == autoheal.LinkUp {
			n.LastSeen = w.now
		} else {
			n.LastSeen = w.now
			if kv["ago"] != "" {
				n.LastSeen = w.now.Add(-mustDuration(w.t, kv["ago"]))
			}
		}
		if kv["boot"] != "" {
			n.BootID = kv["boot"]
		}
		evs = append(evs, w.nodeEvent(n))
	}
	w.send(evs...)
}

func (w *world) exit(id string, kv map[string]string) {
	a := w.current(id)
	if n := atoi(kv["attempt"], 0); n > 0 {
		a = w.work[a.ID][n]
	}
	a.State, a.Ready, a.EndedAt = autoheal.Failed, false, w.now
	if kv["ago"] != "" {
		a.EndedAt = w.now.Add(-mustDuration(w.t, kv["ago"]))
	}
	a.Exit = &autoheal.Exit{Code: atoi(kv["code"], 1), Signal: kv["signal"], OOM: autoheal.OOMKind(kv["oom"]), Reason: autoheal.ExitCrashed}
	if kv["says"] != "" {
		a.Exit.Verdict = gpuVerdict(kv)
	}
	if kv["reason"] != "" {
		a.Exit.Reason = autoheal.ExitReason(kv["reason"])
	}
	if a.Exit.Code == 0 && a.Exit.Reason == autoheal.ExitCrashed {
		a.State, a.Exit.Reason = autoheal.Succeeded, autoheal.ExitCompleted
	}
	w.send(w.workloadEvent(a))
}

func (w *world) advance(s string) {
	end := w.now.Add(mustDuration(w.t, s))
	for n := 0; !w.wake.IsZero() && !w.wake.After(end); n++ {
		if n > 5000 {
			w.t.Fatal("the core wakes without end")
		}
		if w.wake.After(w.now) {
			w.now = w.wake
		}
		w.step(Input{})
	}
	w.now = end
	w.step(Input{})
}

func (w *world) restart() {
	w.epoch++
	core := NewCore(Life{Epoch: w.epoch, Version: "test", ConfigHash: "c", BootID: "b", Cluster: "default"}, w.pol)
	for _, r := range w.log {
		if err := core.Restore(r); err != nil {
			w.t.Fatal(err)
		}
	}
	w.core = core
	var evs []autoheal.Event
	for _, id := range sortedKeys(w.nodes) {
		evs = append(evs, w.nodeEvent(w.nodes[id]))
	}
	for _, id := range sortedKeys(w.work) {
		for _, n := range sortedKeys(w.work[id]) {
			evs = append(evs, w.workloadEvent(w.work[id][n]))
		}
	}
	w.send(append(append(evs, w.repeated()...), autoheal.Event{Kind: autoheal.EventSynced, At: w.now, SeenAt: w.now})...)
}
