package signal

import (
	"regexp"
	"time"

	"autoheal.dev/autoheal"
)

// Kind says in which logs a line of a rule is evidence. In any other it is a quotation.
type Kind string

// Kinds. As the kind of an excerpt, KindAny means that it mixes both: each line then says by its frame what it is.
const (
	KindKernel   Kind = "kernel"
	KindWorkload Kind = "workload"
	KindAny      Kind = "any"
)

// Scope is how far a failure reaches.
type Scope string

// Scopes.
const (
	ScopeGPU      Scope = "gpu"
	ScopeNode     Scope = "node"
	ScopeWorkload Scope = "workload"
	ScopeFabric   Scope = "fabric"
)

// Path is which way of the network a failure is about.
type Path string

// Paths. Without one a failure is about something outside of the job, such as a registry of images.
const (
	PathLink  Path = "link"  // the node's own adapter, cable or port
	PathPeers Path = "peers" // the way between the members of a job
)

// Severity orders signals for people; decisions rest on Failure and Action.
type Severity string

// Severities, worst first.
const (
	Critical Severity = "critical"
	Error    Severity = "error"
	Warning  Severity = "warning"
	Info     Severity = "info"
)

// Meaning is what a matched line stands for: given by its rule, or by the entry of a table that the rule looks up.
type Meaning struct {
	// Name is a few words for people, such as "GPU has fallen off the bus".
	Name string
	// Failure, Scope, Action and Severity are what the verdict is made of; Path is given for failures of the network.
	Failure  autoheal.Failure
	Scope    Scope
	Path     Path
	Action   autoheal.Advice
	Severity Severity
	// Transient failures may go away by themselves; a number of them in a time is a failure (behaviour B3).
	Transient bool
	// Consequence marks what follows from something else: a verdict prefers a cause, and takes this only alone.
	Consequence bool
	// Follows lists codes of which this is a consequence where they stand on the same thing; without them it is a cause.
	Follows []string
	// Yields means that the cause is vague, such as a PCIe link: one that names the part is preferred.
	Yields bool
	// Benign lines are recognised in order to be ignored.
	Benign bool
	// Stated means that the hardware itself names the action: it overrides what tables say of other lines on the subject.
	Stated bool
	// Because explains the meaning in a sentence or two.
	Because string
	// Source names the public document or source file that the facts are from.
	Source string
}

// Sample is a line that must match, with fields that it must give.
type Sample struct {
	Text   string
	Fields map[string]string
}

// Rule is one entry of the catalogue.
type Rule struct {
	// ID is FILE/NAME.
	ID string
	Meaning
	Kind Kind
	// Literals: at least one must occur in the line; All: every one must. They are looked for before Pattern is run.
	Literals, All []string
	// Pattern is a regular expression over the message, without the frame of the log that carried it.
	Pattern string
	// Exception: only lines that report an exception count, and Pattern sees its text from its name on.
	Exception bool
	// Code identifies what is meant where several rules mean the same; ID if empty. ${field} stands for a field's value.
	Code string
	// Table and By look the meaning up: the entry of Table that the field By names overrides what the rule says.
	Table, By string
	// Clears lists codes whose signals on the same subject this line withdraws; a code also stands for all below it.
	Clears []string
	// Settle is the time after the boot in which the line is harmless, such as a link that is not up yet.
	Settle time.Duration
	// Flaps is how many times within flapWindow the thing may fail and come back until an all-clear is not believed any
	// more; 0 is without end.
	Flaps int
	// Context lines are no signal. Rules get the fields of those that they list in Takes, if they came shortly before.
	Context bool
	Takes   []string
	// Traceback is what a context line says of the exceptions around it: chained, ignored, or nothing.
	Traceback string
	// Priority decides between rules that match the same line; the higher one is taken, then the earlier one.
	Priority int
	// TTL is how long the signal holds without being seen again.
	TTL time.Duration
	// Samples must match and Lookalikes must not; they are tests.
	Samples    []Sample
	Lookalikes []string

	re    *regexp.Regexp
	names []string // of the groups of re
	order int
}

// Match is what one line means.
type Match struct {
	Rule *Rule
	// Code is the rule's, or of the entry that was looked up, such as "nvidia/xid/79".
	Code string
	Meaning
	Fields map[string]string
}
