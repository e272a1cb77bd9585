package policy

import (
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/google/jsonschema-go/jsonschema"

	"autoheal.dev/autoheal"
)

// field is one setting. The table of them drives reading, explaining, schema and reference page.
type field struct {
	key    string // dotted
	doc    string // one sentence or two
	typ    string
	raw    bool
	schema func() *jsonschema.Schema
	set    func(r *reader, key string, n *node, p *Policy) bool
	extend func(r *reader, key string, n *node, p *Policy) bool // nil: no entries of its own
	text   func(p *Policy) string                               // as YAML
	show   func(p *Policy) string                               // as YAML, secrets hidden
}

func (f *field) env() string { return envName(f.key) }

// envName returns the variable of a dotted key: AUTOHEAL_ and the path in upper snake case, without the section
// autoHeal, whose name the prefix already says.
func envName(key string) string {
	key = strings.TrimPrefix(key, "autoHeal.")
	var b strings.Builder
	b.WriteString("AUTOHEAL_")
	prev := '.'
	for _, c := range key {
		switch {
		case c == '.':
			b.WriteByte('_')
		case unicode.IsUpper(c) && unicode.IsLower(prev):
			b.WriteByte('_')
			b.WriteRune(c)
		default:
			b.WriteRune(unicode.ToUpper(c))
		}
		prev = c
	}
	return b.String()
}

func at[T any](key string, c codec[T], ptr func(*Policy) *T, doc string) field {
	return of(key, c, func(p *Policy) T { return *ptr(p) }, func(p *Policy, v T) { *ptr(p) = v }, doc)
}

func of[T any](key string, c codec[T], get func(*Policy) T, set func(*Policy, T), doc string) field {
	show := c.show
	if show == nil {
		show = c.write
	}
	f := field{
		key: key, doc: doc, typ: c.name, raw: c.raw, schema: c.schema,
		text: func(p *Policy) string { return c.write(get(p)) },
		show: func(p *Policy) string { return show(get(p)) },
		set: func(r *reader, key string, n *node, p *Policy) bool {
			v, ok := c.read(r, key, n)
			if ok {
				set(p, v)
			}
			return ok
		},
	}
	if c.extend != nil {
		f.extend = func(r *reader, key string, n *node, p *Policy) bool {
			v, ok := c.read(r, key, n)
			if ok {
				set(p, c.extend(get(p), v))
			}
			return ok
		}
	}
	return f
}

// fields is the table, in document order.
var fields = slices.Concat(healFields(), workloadFields(), classFields(), limitFields(), planFields(), siteFields())

var (
	positive = durationCodec(time.Millisecond)
	anyTime  = durationCodec(0)
	command  = listCodec(textCodec("text", nil))
)

func healFields() []field {
	return []field{
		at("autoHeal.enabled", boolCodec, func(p *Policy) *bool { return &p.Enabled }, "Off: failures are still observed, recorded and alerted, and nothing is done about them."),
		at("autoHeal.shadow", boolCodec, func(p *Policy) *bool { return &p.Shadow }, "On: what would have been done is written to the journal instead of being done."),
		at("autoHeal.node.offlineGracePeriod", positive, func(p *Policy) *time.Duration { return &p.Node.OfflineGracePeriod }, "How long a node may be silent before it counts as offline and is cordoned and emptied."),
		at("autoHeal.node.autoCordon", boolCodec, func(p *Policy) *bool { return &p.Node.AutoCordon }, "Off: no mark is set on a failed node; nothing is placed there while its incident is open all the same."),
		at("autoHeal.node.autoMigrate", boolCodec, func(p *Policy) *bool { return &p.Node.AutoMigrate }, "Off: workloads of a failed node are not moved; the incident is held with the commands that would move them."),
		at("autoHeal.node.probeInterval", positive, func(p *Policy) *time.Duration { return &p.Node.ProbeInterval }, "How often each node is asked for a sign of life; a standing poll waits no longer than this for an answer."),
		at("autoHeal.node.probeTimeout", positive, func(p *Policy) *time.Duration { return &p.Node.ProbeTimeout }, "How long one probe may take."),
		at("autoHeal.node.settle", anyTime, func(p *Policy) *time.Duration { return &p.Node.Settle }, "No disruptive step on a node within this time of the latest new silence in its failure domain, so that a rack that goes down is seen as one."),
		at("autoHeal.node.earlyMove", boolCodec, func(p *Policy) *bool { return &p.Node.EarlyMove }, "On: a critical workload that may run twice is moved at half its objective where that is sooner than the grace."),
		at("autoHeal.node.hedge.enabled", boolCodec, func(p *Policy) *bool { return &p.Node.Hedge.Enabled }, "On: a critical workload that may run twice gets an extra copy while its node is only suspected, if there is free capacity."),
		at("autoHeal.node.hedge.after", positive, func(p *Policy) *time.Duration { return &p.Node.Hedge.After }, "How long a node must have been suspected for that."),
		at("autoHeal.node.hedge.max", limitCodec, func(p *Policy) *Limit { return &p.Node.Hedge.Max }, "Most extra copies at once, of the workloads of the class."),
		at("autoHeal.node.returnDwell", anyTime, func(p *Policy) *time.Duration { return &p.Node.ReturnDwell }, "How long contact must be steady before the healer takes back its own cordon; it doubles with each relapse within 24 h, up to 4 h."),
		at("autoHeal.node.returnTest.command", command, func(p *Policy) *[]string { return &p.Node.ReturnTest.Command }, "Program and arguments, run on a node before it comes back; empty compares its inventory and free memory only."),
		at("autoHeal.node.returnTest.timeout", positive, func(p *Policy) *time.Duration { return &p.Node.ReturnTest.Timeout }, "How long that test may take; a node that misses it is quarantined and somebody is paged."),
	}
}

func workloadFields() []field {
	return []field{
		at("autoHeal.workload.maxRestarts", intCodec(0, 1000), func(p *Policy) *int { return &p.Workload.MaxRestarts }, "Restarts after crashes of its own before a workload is paused and alerted."),
		at("autoHeal.workload.restartBackoff", backoffCodec, func(p *Policy) *Backoff { return &p.Workload.RestartBackoff }, "How the wait between restarts grows: exponential is 5s, 10s, 20s and so on up to 5m; constant is 5s; none does not wait. A map sets the numbers."),
		at("autoHeal.workload.restartReset", positive, func(p *Policy) *time.Duration { return &p.Workload.RestartReset }, "How long a workload must run for its restarts to be forgotten."),
		at("autoHeal.workload.oomAutoScale", boolCodec, func(p *Policy) *bool { return &p.Workload.OOMAutoScale }, "On: a workload killed at its own memory limit is started again with more; off: it is paused and the alert names the size."),
		at("autoHeal.workload.oomFactor", numberCodec(1, 10, "1.5"), func(p *Policy) *float64 { return &p.Workload.OOMFactor }, "How much more, as a factor of the limit it had."),
		at("autoHeal.workload.oomMaxSteps", intCodec(0, 10), func(p *Policy) *int { return &p.Workload.OOMMaxSteps }, "How often a workload's memory may grow."),
		at("autoHeal.workload.oomMaxMemory", memoryCodec, func(p *Policy) *int64 { return &p.Workload.OOMMaxMemoryMB }, "The most memory it may grow to; empty means only what a node has."),
		at("autoHeal.verify.critical", anyTime, func(p *Policy) *time.Duration { return &p.Verify.Critical }, "How long a recovered critical workload must stay up to count as recovered."),
		at("autoHeal.verify.default", anyTime, func(p *Policy) *time.Duration { return &p.Verify.Default }, "The same for every other class."),
		at("autoHeal.verify.relapse", anyTime, func(p *Policy) *time.Duration { return &p.Verify.Relapse }, "A failure within this time of a recovery continues the old incident on the next rung."),
		at("autoHeal.alerts.notifyOnRecovery", boolCodec, func(p *Policy) *bool { return &p.Alerts.NotifyOnRecovery }, "Send an alert when something was recovered. Critical alerts are always sent."),
		at("autoHeal.alerts.notifyOnFailure", boolCodec, func(p *Policy) *bool { return &p.Alerts.NotifyOnFailure }, "Send an alert when something failed. Critical alerts are always sent."),
		at("autoHeal.alerts.receivers", listCodec(receiverCodec), func(p *Policy) *[]string { return &p.Alerts.Receivers }, "Where alerts go, as URLs; they are shown without what follows the host, which is often a secret."),
		at("autoHeal.alerts.repeatInterval", positive, func(p *Policy) *time.Duration { return &p.Alerts.RepeatInterval }, "How often an alert that still holds is sent again."),
		at("autoHeal.alerts.maxPerHour", intCodec(1, 100_000), func(p *Policy) *int { return &p.Alerts.MaxPerHour }, "Most alerts an hour to one receiver; what is over it is sent as one count. Critical alerts are not counted."),
		at("autoHeal.alerts.alwaysAlert", boolCodec, func(p *Policy) *bool { return &p.Alerts.AlwaysAlert }, "On: heal raises its closing alert even when it changed nothing."),
	}
}

func classFields() []field {
	var out []field
	about := map[autoheal.Class]string{autoheal.Critical: "production inference", autoheal.High: "training jobs", autoheal.Medium: "batch processing", autoheal.Low: "development and tests"}
	for _, c := range autoheal.Classes() {
		key := "autoHeal.classes." + string(c)
		out = append(out,
			of(key+".objective", positive, func(p *Policy) time.Duration { return p.Classes[c].Objective },
				func(p *Policy, v time.Duration) { k := p.Classes[c]; k.Objective = v; p.Classes[c] = k },
				"The longest a recovery of class "+string(c)+" ("+about[c]+") should take."),
			of(key+".minPriority", intCodec(-1_000_000, 1_000_000), func(p *Policy) int { return p.Classes[c].MinPriority },
				func(p *Policy, v int) { k := p.Classes[c]; k.MinPriority = v; p.Classes[c] = k },
				"A workload with at least this priority is "+string(c)+", where neither its label nor a match says otherwise."),
			of(key+".match", listCodec(matchCodec), func(p *Policy) []Match { return p.Classes[c].Match },
				func(p *Policy, v []Match) { k := p.Classes[c]; k.Match = v; p.Classes[c] = k },
				"Workloads that are "+string(c)+" by labels, namespace or name; all that an entry says must hold."))
	}
	return out
}

func budgetFields(name, what string, get func(*Policy) *Budget) []field {
	key := "autoHeal.budgets." + name
	return []field{
		at(key+".concurrent", limitCodec, func(p *Policy) *Limit { return &get(p).Concurrent }, "Most "+what+" at once, of the pool's ready GPU nodes when the incident began."),
		at(key+".perHour", limitCodec, func(p *Policy) *Limit { return &get(p).PerHour }, "Most of them in an hour."),
		at(key+".perDomain", limitCodec, func(p *Policy) *Limit { return &get(p).PerDomain }, "Most of them at once in one failure domain."),
		at(key+".min", intCodec(0, 1_000_000), func(p *Policy) *int { return &get(p).Min }, "As many are allowed however small the pool is."),
	}
}

func limitFields() []field {
	head := []field{
		at("autoHeal.autonomy", autonomyCodec, func(p *Policy) *map[string]autoheal.HealMode { return &p.Autonomy }, "What the healer does by itself, by kind, by step or verb, or by KIND.STEP; the most exact one holds."),
		at("autoHeal.ladders", ladderCodec, func(p *Policy) *map[autoheal.FailureKind][]Step { return &p.Ladders }, "The steps for a kind of failure in their order; only the kinds that differ from the default."),
		at("autoHeal.rung.attempts", intCodec(1, 100), func(p *Policy) *int { return &p.Rung.Attempts }, "How often one step is tried before the next; each has max(10s, objective / 3)."),
	}
	tail := []field{
		at("autoHeal.budgets.pace", numberCodec(0, 10_000, "10"), func(p *Policy) *float64 { return &p.Budgets.Pace }, "Workloads a second that are moved off what is proven dead."),
		at("autoHeal.budgets.cooldown", anyTime, func(p *Policy) *time.Duration { return &p.Budgets.Cooldown }, "How long stragglers wait after at least three recoveries within five minutes."),
		at("autoHeal.storm.fraction", fractionCodec, func(p *Policy) *float64 { return &p.Storm.Fraction }, "When more than this share of the nodes falls silent at once, the healer doubts itself and holds."),
		at("autoHeal.storm.minNodes", intCodec(2, 1_000_000), func(p *Policy) *int { return &p.Storm.MinNodes }, "Fewer silent nodes than this are never a storm."),
		at("autoHeal.storm.window", positive, func(p *Policy) *time.Duration { return &p.Storm.Window }, "What counts as at once."),
		at("autoHeal.storm.autoRelease", enumCodec(ReleaseCriticalStateless, ReleaseNever), func(p *Policy) *string { return &p.Storm.AutoRelease }, "What a long hold lets go by itself: critical workloads that may run twice, one every 10 s, or nothing."),
		at("autoHeal.transient.silence", occurrencesCodec, func(p *Policy) *Occurrences { return &p.Transient.Silence }, "So many silences of one node are a persistent fault."),
		at("autoHeal.transient.link", occurrencesCodec, func(p *Policy) *Occurrences { return &p.Transient.Link }, "So many losses of one link are a persistent fault."),
		at("autoHeal.transient.xid", occurrencesCodec, func(p *Policy) *Occurrences { return &p.Transient.Xid }, "So many Xid errors of one GPU are a persistent fault."),
		at("autoHeal.offender.score", numberCodec(0, 1000, "3"), func(p *Policy) *float64 { return &p.Offender.Score }, "A node or GPU whose incidents add up to this is quarantined for a person; each counts less with age."),
		at("autoHeal.offender.halfLife", positive, func(p *Policy) *time.Duration { return &p.Offender.HalfLife }, "The age at which an incident counts half."),
	}
	return slices.Concat(head,
		budgetFields("disrupt", "nodes disrupted", func(p *Policy) *Budget { return &p.Budgets.Disrupt }),
		budgetFields("contain", "nodes cordoned or quarantined", func(p *Policy) *Budget { return &p.Budgets.Contain }), tail)
}

func planFields() []field {
	return []field{
		at("autoHeal.preemption.enabled", boolCodec, func(p *Policy) *bool { return &p.Preemption.Enabled }, "On: a preemptible workload may be stopped for one that is more important and fits nowhere."),
		at("autoHeal.preemption.pendingFor", anyTime, func(p *Policy) *time.Duration { return &p.Preemption.PendingFor }, "How long that one must have been pending."),
		at("autoHeal.preemption.forClasses", listCodec(enumCodec(autoheal.Classes()...)), func(p *Policy) *[]autoheal.Class { return &p.Preemption.ForClasses }, "The classes that others are stopped for."),
		at("autoHeal.preemption.minPriorityGap", intCodec(1, 1_000_000), func(p *Policy) *int { return &p.Preemption.MinPriorityGap }, "A victim's priority is lower by at least this."),
		at("autoHeal.preemption.chain", intCodec(1, 3), func(p *Policy) *int { return &p.Preemption.Chain }, "How long a chain of preemptions may be; 1 means that what was stopped stops nothing else."),
		at("autoHeal.preemption.perHour", limitCodec, func(p *Policy) *Limit { return &p.Preemption.PerHour }, "Most GPUs taken away in an hour."),
		at("autoHeal.preemption.nominationTTL", positive, func(p *Policy) *time.Duration { return &p.Preemption.NominationTTL }, "How long the room that was made is kept for the one it was made for."),
		at("autoHeal.fence.selfStop", positive, func(p *Policy) *time.Duration { return &p.Fence.SelfStop }, "An at-most-once workload is stopped by its own node this long after the last acknowledged contact."),
		at("autoHeal.fence.margin", anyTime, func(p *Policy) *time.Duration { return &p.Fence.Margin }, "What is added for clocks that differ and for the time a kill takes."),
		at("autoHeal.fence.wait", positive, func(p *Policy) *time.Duration { return &p.Fence.Wait }, "How long the healer waits before it takes that stop for granted."),
		at("autoHeal.fence.trustSelfStop", boolCodec, func(p *Policy) *bool { return &p.Fence.TrustSelfStop }, "Off: silence never proves that a workload has stopped. With the driver openclaw the default is off, because there an outage of the healer longer than selfStop would stop every at-most-once workload."),
		at("autoHeal.fence.command", command, func(p *Policy) *[]string { return &p.Fence.Command }, "Program and arguments that power a node off; no shell, the node as JSON on standard input, exit 0 means confirmed off. It has 60 s and is tried 3 times."),
		at("autoHeal.repair.resetCommand", command, func(p *Policy) *[]string { return &p.Repair.ResetCommand }, "Program and arguments that reset a GPU, run on its node; no shell, the GPU as JSON on standard input, exit 0 means reset. Empty: nvidia-smi --gpu-reset."),
		at("autoHeal.repair.rebootCommand", command, func(p *Policy) *[]string { return &p.Repair.RebootCommand }, "Program and arguments that reboot a node, run where the healer runs; no shell, the node as JSON on standard input, exit 0 means that the reboot has begun. Empty: no node is rebooted."),
		at("autoHeal.repair.timeout", positive, func(p *Policy) *time.Duration { return &p.Repair.Timeout }, "How long one of the two may take."),
		at("autoHeal.evidence.maxAge", positive, func(p *Policy) *time.Duration { return &p.Evidence.MaxAge }, "Evidence from logs that is older is stale and nothing is done on it."),
		at("autoHeal.evidence.collect", positive, func(p *Policy) *time.Duration { return &p.Evidence.Collect }, "How long collecting evidence may hold up a repair; never that of a critical workload."),
		at("autoHeal.maintenance", listCodec(maintenanceCodec), func(p *Policy) *[]Maintenance { return &p.Maintenance }, "Planned windows in which nothing is done to the nodes named."),
		at("autoHeal.veto", listCodec(refCodec), func(p *Policy) *[]autoheal.Ref { return &p.Veto }, "Subjects that the healer never touches, as KIND/ID."),
		at("autoHeal.approval.expires", positive, func(p *Policy) *time.Duration { return &p.Approval.Expires }, "How long a person has to approve a step before it is held and somebody is paged."),
		at("autoHeal.signals.rules", rulesCodec, func(p *Policy) *[]map[string]any { return &p.Signals.Rules }, "Own rules beside the built-in catalogue."),
		at("autoHeal.signals.xid", xidCodec, func(p *Policy) *map[int]autoheal.Advice { return &p.Signals.Xid }, "What an NVIDIA Xid number asks for, where it should differ from the catalogue."),
	}
}

func siteFields() []field {
	return []field{
		at("cluster.driver", enumCodec(DriverEmbedded, DriverOpenClaw, DriverKubernetes), func(p *Policy) *string { return &p.Cluster.Driver }, "How the cluster is reached: embedded on one machine, an OpenClaw gateway, or Kubernetes."),
		at("cluster.url", textCodec("URL", checkURL), func(p *Policy) *string { return &p.Cluster.URL }, "Address of the OpenClaw gateway, such as wss://gateway:18789."),
		at("cluster.tokenFile", textCodec("path", nil), func(p *Policy) *string { return &p.Cluster.TokenFile }, "File with the gateway's token."),
		at("cluster.approve", listCodec(textCodec("a pattern", checkGlob)), func(p *Policy) *[]string { return &p.Cluster.Approve }, "Names or globs of nodes that are approved when they first ask; others wait for a person."),
		at("cluster.name", textCodec("name", checkName), func(p *Policy) *string { return &p.Cluster.Name }, "What alerts and reports call the cluster."),
		at("state.dir", textCodec("path", nil), func(p *Policy) *string { return &p.State.Dir }, "Folder of the healer's state; empty means the user's state folder."),
		at("state.journalBytes", sizeCodec(mib), func(p *Policy) *int64 { return &p.State.JournalBytes }, "The journal is compacted above this."),
		at("state.tapeBytes", sizeCodec(mib), func(p *Policy) *int64 { return &p.State.TapeBytes }, "Size of the ring of inputs kept for replay."),
		at("state.logBytes", sizeCodec(mib), func(p *Policy) *int64 { return &p.State.LogBytes }, "Size of the searchable logs; the oldest are dropped."),
		at("state.incidentsKeep", durationCodec(time.Hour), func(p *Policy) *time.Duration { return &p.State.IncidentsKeep }, "How long ended incidents and their post-mortems are kept."),
		at("api.listen", textCodec("HOST:PORT", checkListen), func(p *Policy) *string { return &p.API.Listen }, "Where the API and the dashboard listen; empty listens on no network."),
		at("api.socket", textCodec("path", nil), func(p *Policy) *string { return &p.API.Socket }, "The API's socket; empty means api.sock in the state folder."),
	}
}

func checkURL(s string) (string, string) {
	if s == "" {
		return "", ""
	}
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || !slices.Contains([]string{"ws", "wss", "http", "https"}, u.Scheme) {
		return strconv.Quote(s) + " is not the URL of a gateway", "for example wss://gateway:18789"
	}
	return "", ""
}

func checkName(s string) (string, string) {
	if err := autoheal.CheckName(s); err != nil {
		return strconv.Quote(s) + " is not a name", `use at most 63 of a-z, 0-9 and "-", and neither start nor end with "-"`
	}
	return "", ""
}

func checkListen(s string) (string, string) {
	if s == "" {
		return "", ""
	}
	host, port, err := net.SplitHostPort(s)
	n, perr := strconv.ParseUint(port, 10, 16)
	if err != nil || perr != nil || n > 65535 || strings.ContainsAny(host, " /") {
		return strconv.Quote(s) + " is not HOST:PORT", "for example 127.0.0.1:7433"
	}
	return "", ""
}

// receiverCodec reads one receiver's URL.
var receiverCodec = func() codec[string] {
	c := textCodec("URL", func(s string) (string, string) {
		scheme, rest, ok := strings.Cut(s, "://")
		if !ok || scheme == "" || rest == "" {
			return "this is not a URL", "for example slack://TOKEN@CHANNEL or http://alertmanager:9093"
		}
		return "", ""
	})
	c.show = func(s string) string { return quote(hideSecret(s)) }
	return c
}()

// hideSecret keeps what tells receivers apart and is no secret: the scheme, and the host of plain web addresses. In the
// URLs of chat services even the host is a token.
func hideSecret(s string) string {
	scheme, _, _ := strings.Cut(s, "://")
	if scheme == "http" || scheme == "https" || scheme == "alertmanager" {
		if u, err := url.Parse(s); err == nil && u.User == nil {
			return scheme + "://" + u.Host + "/…"
		}
	}
	return scheme + "://…"
}
