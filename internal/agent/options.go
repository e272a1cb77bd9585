package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/agent/network"
	"autoheal.dev/autoheal/internal/agent/shim"
	"autoheal.dev/autoheal/internal/clock"
)

// Options configure Run.
type Options struct {
	Gateway   string // ws://host:port
	TokenFile string // the node token; refused when others can read it
	Data      string // the agent's files are below Data/agents/Name
	Name      string // of the node; bound to the agent's key at the first approval
	Version   string
	Labels    map[string]string

	// ShimCommand is the argv prefix that runs this binary as a shim, such as {"/proc/self/exe", "shim"}; "--dir DIR" is
	// appended.
	ShimCommand []string
	// ShimEnv is added to the shims' environment, never to a workload's: the mark by which tests find what they left.
	ShimEnv []string

	// SimulateGPUs, "N" or "N:MODEL", makes the node report N simulated GPUs and ask no driver.
	SimulateGPUs string
	// SimulateBoots is a folder in which a file of the node's name stands for how often the machine has booted: another
	// content is another boot. Empty = the machine's own boots.
	SimulateBoots string
	// KernelLog is a file that stands for the kernel log; empty = /dev/kmsg.
	KernelLog string
	// WorkloadUser is the user that workloads run as; it needs root. Empty = the agent's own.
	WorkloadUser string
	// MemoryMB and CPUs limit the whole node (0 = what the machine has): its control group gets these limits.
	MemoryMB int64
	CPUs     float64
	// PidsLimit bounds the processes and threads of one workload; 0 = 16384.
	PidsLimit int64
	// LogBytes bounds one of an attempt's four log files (0 = 4 MiB), LogRate what is written a second (0 = 8 MiB).
	LogBytes, LogRate int64
	// CgroupPrefix is the control group that holds the nodes of this machine; empty = "autoheal". "none" uses none.
	CgroupPrefix string
	// Engines lists the sockets of container engines to look for; nil = the usual places of Docker and Podman.
	Engines []string

	// NoPrograms has the agent refuse to run the programs that the site configured for resets and tests.
	NoPrograms bool

	// ProbeListen is where probes of other nodes are answered: HOST:PORT, or "off". Empty = a free port, of loopback only
	// where the gateway is on this machine too.
	ProbeListen string
	// EphemeralFD is an inherited pipe whose closing means that the parent died: everything is stopped and Run returns.
	// 0 = none.
	EphemeralFD int
	// HealerLock is the file that the healer of a gateway on this machine keeps open for as long as it lives. With it,
	// "connection refused" renews the lease while no process has it open: that healer counts every wait anew after its
	// own start (behaviour C4). Empty = nothing but contact renews.
	HealerLock string

	Logger *slog.Logger
	Clock  clock.Clock
	// Boottime is the clock of leases: CLOCK_BOOTTIME of this machine, which the shims read too. Nil = the machine's.
	Boottime func() time.Duration
}

func (o Options) withDefaults() (Options, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Clock == nil {
		o.Clock = clock.Real{}
	}
	if o.Boottime == nil {
		o.Boottime = shim.Boottime
	}
	if o.CgroupPrefix == "" {
		o.CgroupPrefix = "autoheal"
	}
	if o.ProbeListen == "" {
		o.ProbeListen = ":0"
		if network.Loopback(o.Gateway) {
			o.ProbeListen = "127.0.0.1:0"
		}
	}
	if o.PidsLimit == 0 {
		o.PidsLimit = 16384
	}
	if o.Version == "" {
		o.Version = "unversioned" // a gateway refuses a client that names none
	}
	if o.Labels == nil {
		o.Labels = map[string]string{}
	}
	if err := autoheal.CheckName(o.Name); err != nil {
		return o, fmt.Errorf("check node options: %w", err)
	}
	if len(o.ShimCommand) == 0 {
		return o, errors.New("check node options: no shim command is given")
	}
	data, err := filepath.Abs(o.Data)
	if err != nil || o.Data == "" {
		return o, fmt.Errorf("check node options: data folder %q is not usable", o.Data)
	}
	o.Data = data
	return o, nil
}

// bootID names the present boot of the node, which may be a simulated one.
func (o Options) bootID() (string, error) {
	id, err := shim.BootID()
	if err != nil || o.SimulateBoots == "" {
		return id, err
	}
	data, err := os.ReadFile(filepath.Join(o.SimulateBoots, o.Name))
	if errors.Is(err, fs.ErrNotExist) {
		return id, nil
	}
	if err != nil {
		return "", fmt.Errorf("read simulated boots: %w", err)
	}
	return id + ".simulated-" + strings.TrimSpace(string(data)), nil
}

// readToken reads the node token and refuses a file that others can read.
func readToken(path string) (string, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read node token: %s does not exist; copy node.token from the data directory of the healer's machine and chmod 600 it", path)
	}
	if err != nil {
		return "", fmt.Errorf("read node token: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return "", fmt.Errorf("read node token: mode %04o of %s lets others read it; run: chmod 600 %s", mode, path, path)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read node token: %w", err)
	}
	token := strings.TrimSpace(string(data))
	if token == "" {
		return "", fmt.Errorf("read node token: %s is empty", path)
	}
	return token, nil
}
