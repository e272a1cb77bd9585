package autoheal

import (
	"slices"
	"time"
)

// LinkState is what the driver's own probes say of the way to a node.
type LinkState string

// Link states. LinkUnknown is the zero meaning: nobody looked, or the stream had gaps; it is neither up nor silent.
const (
	LinkUnknown LinkState = "unknown"
	LinkUp      LinkState = "up"
	LinkSilent  LinkState = "silent"
)

// Health is a part's health. HealthUnknown is the zero meaning and is treated neither as ok nor as failed.
type Health string

// Health values.
const (
	HealthUnknown  Health = "unknown"
	HealthOK       Health = "ok"
	HealthDegraded Health = "degraded"
	HealthFailed   Health = "failed"
)

// Node is one machine of the cluster as last observed.
type Node struct {
	ID     NodeID `json:"id"`
	BootID string `json:"bootId"` // changes when the machine boots
	Source string `json:"source"` // "agent", "clawnode", "kube", "sim"

	Link      LinkState `json:"link"`
	LinkSince time.Time `json:"linkSince"` // when Link took its present value
	// LastSeen is when the healer received the last answer from the node's agent; fence deadlines count from it. For a
	// node that has not answered in this healer's life it is when that life began to listen.
	LastSeen time.Time `json:"lastSeen"`

	Ready       bool   `json:"ready"`       // probes answer and the agent says it can run workloads
	Schedulable bool   `json:"schedulable"` // no mark forbids placement
	Marks       []Mark `json:"marks"`       // cordons, with their owners
	Draining    bool   `json:"draining"`    // a drain was accepted and has not ended

	Labels      map[string]string `json:"labels"`
	Domains     []Domain          `json:"domains"`
	Capacity    Resources         `json:"capacity"`
	Allocatable Resources         `json:"allocatable"`
	GPUs        []GPU             `json:"gpus"`
	Caps        []Verb            `json:"caps"`     // what can be done here; a verb that is absent is unsupported
	SelfStop    bool              `json:"selfStop"` // at-most-once workloads here stop themselves when contact is lost (proof level 3)

	Addresses   []string  `json:"addresses,omitempty"` // by which other machines may call it: its host name, its IP addresses
	Platform    string    `json:"platform"`
	AgentLife   string    `json:"agentLife"` // changes when the agent's process is restarted
	ConnectedAt time.Time `json:"connectedAt"`
	// Conditions are named pressures such as "disk_full" with the reason as value; empty means none is known.
	Conditions map[string]string `json:"conditions"`
	// Jobs are the repairs and tests that the node was asked for last, oldest first.
	Jobs []Job `json:"jobs,omitempty"`
}

// Ref names the node in its present boot.
func (n *Node) Ref() Ref { return Ref{Kind: RefNode, ID: string(n.ID), Generation: n.BootID} }

// MarkedBy returns the first mark whose owner is by, or nil.
func (n *Node) MarkedBy(by string) *Mark {
	for i := range n.Marks {
		if n.Marks[i].By == by {
			return &n.Marks[i]
		}
	}
	return nil
}

// Supports reports whether the node can do v.
func (n *Node) Supports(v Verb) bool {
	return slices.Contains(n.Caps, v)
}

// Job returns what became of an action that the node carries out by itself, or nil where it does not know of it.
func (n *Node) Job(id ActionID) *Job {
	for i := range n.Jobs {
		if n.Jobs[i].Action == id {
			return &n.Jobs[i]
		}
	}
	return nil
}

// NodeStatus is the word that tools show and filter by.
type NodeStatus string

// Node statuses. NotReady is a suspected node, Offline one whose grace is over.
const (
	StatusReady    NodeStatus = "ready"
	StatusNotReady NodeStatus = "not_ready"
	StatusCordoned NodeStatus = "cordoned"
	StatusDraining NodeStatus = "draining"
	StatusOffline  NodeStatus = "offline"
)

// GPU is one accelerator of a node.
type GPU struct {
	UUID        GPUID      `json:"uuid"`
	Index       int        `json:"index"`
	PCI         string     `json:"pci"` // domain:bus:device.function, lower case
	Model       string     `json:"model"`
	Vendor      string     `json:"vendor"` // nvidia, amd, apple, intel
	MemoryMB    int64      `json:"memoryMb"`
	Health      Health     `json:"health"`
	Quarantined *Mark      `json:"quarantined"`
	Simulated   bool       `json:"simulated"` // made up by --simulate-gpus; every output says so
	UsedBy      WorkloadID `json:"usedBy"`
	// Action is what its driver, or the kernel, asks for where Health is failed; empty where neither says.
	Action Advice `json:"action,omitempty"`

	// What a ticket to the vendor asks for; empty where the driver does not tell.
	Serial   string `json:"serial,omitempty"`
	Firmware string `json:"firmware,omitempty"` // versions of video BIOS and GSP
	Driver   string `json:"driver,omitempty"`
}

// ByAutoheal is the owner of the healer's own marks.
const ByAutoheal = "autoheal"

// Mark is a cordon, a quarantine or a pause, and who set it.
type Mark struct {
	By       string     `json:"by"` // ByAutoheal, or a person's name
	Reason   string     `json:"reason"`
	Incident IncidentID `json:"incident,omitempty"`
	Epoch    uint64     `json:"epoch,omitempty"`
	At       time.Time  `json:"at"`
}

// Resources is an amount of what nodes have and workloads ask for. CPUMilli is thousandths of a core. As a request,
// GPUModel is a case-insensitive substring and GPUMemoryMB is per GPU.
type Resources struct {
	CPUMilli    int64  `json:"cpuMilli"`
	MemoryMB    int64  `json:"memoryMb"`
	Pids        int64  `json:"pids"`
	GPUs        int    `json:"gpus"`
	GPUMemoryMB int64  `json:"gpuMemoryMb"`
	GPUModel    string `json:"gpuModel"`
}
