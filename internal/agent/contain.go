package agent

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"autoheal.dev/autoheal/internal/agent/cgroup"
	"autoheal.dev/autoheal/internal/agent/container"
	"autoheal.dev/autoheal/internal/agent/shim"
	"autoheal.dev/autoheal/internal/nodeproto"
)

// engineTime bounds a question to a container engine that should answer at once.
const engineTime = 2 * time.Second

// sockets lists where engines are looked for.
func (a *Agent) sockets() []string {
	if a.opts.Engines != nil {
		return a.opts.Engines
	}
	return container.Sockets(os.Getuid())
}

// findEngines looks for engines and publishes the node if they differ.
func (a *Agent) findEngines(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, engineTime)
	defer cancel()
	found := container.Find(ctx, a.sockets())
	names := []string{}
	for _, e := range found {
		names = append(names, e.String())
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.engines = found
	if !slices.Equal(a.node.Runtimes, names) {
		a.node.Runtimes = names
		a.publishNodeLocked()
	}
}

// containLocked makes a spec one of a container.
func (a *Agent) containLocked(s *shim.Spec, req *nodeproto.StartRequest) error {
	if req.Spec.Image == "" || strings.ContainsAny(req.Spec.Image, " ?#%\r\n") {
		return refuse(nodeproto.CodeInvalid, "start %s: %q cannot be an image", req.Workload, req.Spec.Image)
	}
	if len(a.engines) == 0 {
		return refuse(nodeproto.CodeUnsupported, "start %s: image %q needs a container engine; none answers at %s",
			req.Workload, req.Spec.Image, strings.Join(a.sockets(), ", "))
	}
	var uuids []string
	for _, id := range req.GPUs {
		uuids = append(uuids, string(id))
	}
	devices := uuids
	if a.prober == nil {
		devices = nil // simulated GPUs cannot be handed to a container
	}
	engine := a.engines[0]
	s.Engine, s.Argv, s.Env = &engine, nil, nil
	s.Container = &container.Spec{
		Name:  fmt.Sprintf("autoheal-%s-%s-%d", a.opts.Name, req.Workload, req.Attempt),
		Image: req.Spec.Image, Entrypoint: req.Spec.Command, Args: req.Spec.Args,
		Env: containerEnvironment(req, a.opts.Name, uuids),
		Labels: map[string]string{
			"dev.autoheal.node": a.opts.Name, "dev.autoheal.workload": string(req.Workload),
			"dev.autoheal.attempt": fmt.Sprint(req.Attempt), "dev.autoheal.generation": req.Generation,
		},
		MemoryMB: s.Limits.MemoryMB, CPUMilli: s.Limits.CPUMilli, Pids: s.Limits.Pids, GPUs: devices,
	}
	s.Group, s.Credential = cgroup.Group{}, nil
	return nil
}

// removeContainer ends the container of a dead shim.
func (a *Agent) removeContainer(s *shim.Spec) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(a.ctx), 5*engineTime)
	defer cancel()
	return s.Engine.Remove(ctx, s.Container.Name)
}
