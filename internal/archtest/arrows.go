package archtest

// Arrow says what one package of this module may import of this module. The root package may be imported by every
// package but those with NoRoot, and is not listed.
type Arrow struct {
	// Package is the folder from the root of the module.
	Package string
	// May lists the folders that its code may import.
	May []string
	// Tests lists what its tests may import beyond May and testSupport.
	Tests []string
	// All lifts every limit: the package wires the others together.
	All bool
	// NoRoot forbids even the root package.
	NoRoot bool
	// Remedy is printed with a violation: the usual way to get by without the import.
	Remedy string
}

// testSupport may be imported by the tests of every package, and by the code of none.
var testSupport = []string{
	"internal/driver/drivertest", "internal/journal/journaltest", "internal/leakcheck", "internal/store/storetest",
	"internal/tool/tooltest",
}

const (
	passValue    = "have the caller pass the value in; what decides is handed data and times, never a source of them"
	throughPort  = "reach the cluster through the autoheal.Cluster port; only internal/app knows which driver stands behind it"
	throughVerbs = "call a verb of internal/tool; a surface renders verbs and defines none"
	keepLeaf     = "move what both need into the root package as a noun, or pass it as a parameter"
)

// Arrows is the whole table; docs/design.md shows the same arrows with their reasons. A package of this module that is
// not listed fails the test, so that a new package begins with the question of where it stands.
var Arrows = []Arrow{
	{Package: ".", Remedy: "the root package is nouns and ports; what needs another package belongs in that package"},

	// Leaves: pure words and calculations.
	{Package: "internal/clock", NoRoot: true, Remedy: keepLeaf},
	{Package: "internal/place", Remedy: keepLeaf},
	{Package: "internal/redact", NoRoot: true, Remedy: keepLeaf},
	{Package: "internal/signal", Remedy: keepLeaf},
	{Package: "internal/signal/source", May: []string{"internal/signal"}, Remedy: keepLeaf},
	{Package: "internal/store", Remedy: keepLeaf},
	{Package: "internal/nodeproto", Remedy: keepLeaf},
	{Package: "internal/program", May: []string{"internal/clock"}, NoRoot: true, Remedy: keepLeaf},
	{
		Package: "internal/openclaw", May: []string{"internal/clock"}, NoRoot: true,
		Remedy: "the protocol knows no noun of ours; translate at its caller",
	},

	// What decides.
	{Package: "internal/policy", May: []string{"internal/signal"}, Remedy: passValue},
	{Package: "internal/detect", May: []string{"internal/policy", "internal/signal"}, Remedy: passValue},
	{Package: "internal/journal", Remedy: keepLeaf},
	{Package: "internal/journal/sqlite", May: []string{"internal/journal", "internal/store"}, Remedy: keepLeaf},
	{
		Package: "internal/heal",
		May:     []string{"internal/detect", "internal/policy", "internal/journal", "internal/place", "internal/clock"},
		Tests:   []string{"internal/sim", "internal/journal/sqlite", "internal/store", "internal/signal"},
		Remedy:  throughPort,
	},

	// Nodes and how they are reached.
	{
		Package: "internal/agent",
		May: []string{
			"internal/agent/cgroup", "internal/agent/container", "internal/agent/gpu", "internal/agent/network", "internal/agent/sense", "internal/agent/shim",
			"internal/openclaw", "internal/signal", "internal/clock", "internal/nodeproto", "internal/program", "internal/redact",
		},
		Tests:  []string{"internal/gateway"},
		Remedy: "an agent runs on a machine that may be cut off: it takes orders over the protocol and decides nothing",
	},
	{
		Package: "internal/agent/sense", May: []string{"internal/signal"},
		Remedy: "it hears and counts: what it heard is told, and acted upon, by whoever asks it",
	},
	{
		Package: "internal/agent/shim", May: []string{"internal/agent/cgroup", "internal/agent/container", "internal/clock", "internal/nodeproto"},
		Remedy: "the shim outlives the agent and must stay small: give it what it needs in its spec file",
	},
	{
		Package: "internal/agent/network", May: []string{"internal/clock", "internal/nodeproto"},
		Remedy: "it looks at links and reaches out to other nodes; what that means is for others to say",
	},
	{Package: "internal/agent/gpu", May: []string{"internal/clock"}, Remedy: keepLeaf},
	{Package: "internal/agent/container", May: []string{"internal/clock"}, Remedy: keepLeaf},
	{Package: "internal/agent/cgroup", May: []string{"internal/clock"}, Remedy: keepLeaf},
	{
		Package: "internal/gateway", May: []string{"internal/openclaw", "internal/clock"},
		Remedy: "the gateway is transport; what it carries is opaque to it",
	},

	// Drivers.
	{
		Package: "internal/driver/claw",
		May: []string{
			"internal/openclaw", "internal/place", "internal/store", "internal/clock", "internal/nodeproto", "internal/program",
		},
		Tests:  []string{"internal/gateway", "internal/agent", "internal/agent/shim"},
		Remedy: "a driver implements the port and knows neither the engine nor another driver",
	},
	{
		Package: "internal/driver/kube", May: []string{"internal/signal", "internal/journal", "internal/clock"},
		Remedy: "a driver implements the port and knows neither the engine nor another driver",
	},

	// What people and programs call.
	{
		Package: "internal/tool", May: []string{"internal/policy", "internal/signal", "internal/redact"},
		Remedy: "ask for it in the Healer interface of internal/tool, which the engine implements",
	},
	{Package: "internal/surface/cli", May: surfaceMay, Tests: []string{"internal/surface/httpapi"}, Remedy: throughVerbs},
	{Package: "internal/surface/httpapi", May: surfaceMay, Remedy: throughVerbs},
	{Package: "internal/surface/mcp", May: surfaceMay, Remedy: throughVerbs},
	{Package: "internal/surface/client", May: surfaceMay, Remedy: throughVerbs},
	{Package: "internal/web", NoRoot: true, Remedy: "the dashboard reads the HTTP interface and embeds files only"},

	// Whole clusters.
	{
		Package: "internal/sim",
		May: []string{
			"internal/heal", "internal/policy", "internal/place", "internal/journal", "internal/clock",
		},
		Remedy: "the simulator runs the engine against its own world and touches nothing real",
	},
	{
		Package: "internal/drill", May: []string{"internal/clock", "internal/surface/client"},
		Remedy: "a drill runs the product as a user does: through the binary and the client of its interface",
	},
	{Package: "internal/app", All: true},
	{Package: "cmd/autoheal", All: true},

	// Test support.
	{Package: "internal/driver/drivertest", May: []string{"internal/clock"}, Remedy: throughPort},
	{Package: "internal/tool/tooltest", May: []string{"internal/policy", "internal/tool"}, Remedy: keepLeaf},
	{Package: "internal/journal/journaltest", May: []string{"internal/journal"}, Remedy: keepLeaf},
	{Package: "internal/store/storetest", May: []string{"internal/store"}, Remedy: keepLeaf},
	{
		Package: "internal/e2e", NoRoot: true, Tests: []string{"internal/clock", "internal/store", "internal/surface/client"},
		Remedy: "a test of the whole runs the binary and knows what an operator can know",
	},
	{Package: "internal/leakcheck", May: []string{"internal/clock"}, NoRoot: true, Remedy: keepLeaf},
	{Package: "internal/archtest", NoRoot: true, Remedy: keepLeaf},
}

var surfaceMay = []string{"internal/tool", "internal/surface/client"}

// Never lists the arrows that no table entry may allow, looked for along every chain of imports, tests excepted.
var Never = []struct {
	From, To []string
	Why      string
}{
	{
		[]string{"cmd"},
		append([]string{"internal/archtest"}, testSupport...),
		"test support has no place in the product's binary",
	},
	{
		[]string{"internal/driver"},
		[]string{"internal/heal"},
		"a driver that knew the engine could decide by itself; it is told what to do by actions",
	},
	{
		[]string{"internal/driver/claw"},
		[]string{"internal/driver/kube"},
		"each driver can be read, tested and replaced alone",
	},
	{
		[]string{"internal/driver/kube"},
		[]string{"internal/driver/claw"},
		"each driver can be read, tested and replaced alone",
	},
	{
		[]string{"internal/detect"},
		[]string{"internal/clock"},
		"a detector is told the time, or its findings could not be replayed",
	},
	{
		[]string{"internal/surface"},
		[]string{"internal/driver", "internal/heal"},
		"a surface that went around the verbs would go around the gates",
	},
	{
		[]string{"internal/openclaw"},
		[]string{"."},
		"the gateway protocol is not ours and must be usable, and testable, without our nouns",
	},
	{
		[]string{"internal/agent"},
		[]string{"internal/store", "internal/heal"},
		"the agent must stay small and cannot share the healer's state",
	},
}

// Libraries keeps heavy or dangerous dependencies to the packages that are about them. The agent and the shim run beside
// the user's workloads: nothing of this list may reach them along any chain.
var Libraries = []struct {
	Prefixes []string
	May      []string
	Why      string
}{
	{
		[]string{"k8s.io/", "sigs.k8s.io/"},
		[]string{"internal/driver/kube", "internal/app", "cmd"},
		"Kubernetes is reached through its driver",
	},
	{
		[]string{"github.com/prometheus/"},
		[]string{"internal/app", "cmd"},
		"metrics are registered and stored where the program is wired",
	},
	{
		[]string{"modernc.org/sqlite", "github.com/pressly/goose/"},
		[]string{"internal/store"},
		"internal/store alone opens and migrates database files, so that there is one writer",
	},
	{
		[]string{"database/sql"},
		[]string{"internal/store", "internal/journal/sqlite", "internal/driver/claw", "internal/app"},
		"durable state has few owners",
	},
	{
		[]string{"github.com/spf13/cobra", "charm.land/"},
		[]string{"internal/surface/cli", "internal/app", "cmd"},
		"the terminal is one surface among several",
	},
	{
		[]string{"unsafe", "C"},
		nil,
		"the program is static and portable, and its memory is safe",
	},
}
