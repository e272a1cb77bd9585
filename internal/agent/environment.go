package agent

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"autoheal.dev/autoheal/internal/nodeproto"
)

// homeVariable holds the working folder of a process: unlike HOME, a workload cannot replace it.
const homeVariable = "AUTOHEAL_HOME"

// hostEnvironment is the environment of a process: built, never inherited. GPUs are named by their indices here.
func hostEnvironment(req *nodeproto.StartRequest, node string, gpus []string, home string) []string {
	env := map[string]string{
		"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": home, "LANG": "C.UTF-8",
	}
	maps.Copy(env, req.Spec.Env)
	env[homeVariable] = home
	visible := strings.Join(gpus, ",")
	env["CUDA_VISIBLE_DEVICES"] = visible
	env["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID" // CUDA's own order is by speed: the indices would name other GPUs
	env["NVIDIA_VISIBLE_DEVICES"] = visible
	if visible == "" {
		env["NVIDIA_VISIBLE_DEVICES"] = "void" // for NVIDIA's container runtime, empty means all
	}
	return withOurs(env, req, node)
}

// containerEnvironment leaves the image's own variables alone. Inside, the assigned GPUs are the only ones and count
// from 0.
func containerEnvironment(req *nodeproto.StartRequest, node string, uuids []string) []string {
	env := maps.Clone(req.Spec.Env)
	if env == nil {
		env = map[string]string{}
	}
	indices := make([]string, len(uuids))
	for i := range uuids {
		indices[i] = strconv.Itoa(i)
	}
	env["CUDA_VISIBLE_DEVICES"] = strings.Join(indices, ",")
	env["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
	env["NVIDIA_VISIBLE_DEVICES"] = "void"
	if len(uuids) > 0 {
		env["NVIDIA_VISIBLE_DEVICES"] = strings.Join(uuids, ",")
	}
	return withOurs(env, req, node)
}

// withOurs adds what a workload may rely on; nothing of the spec can replace it.
func withOurs(env map[string]string, req *nodeproto.StartRequest, node string) []string {
	env["AUTOHEAL_WORKLOAD"] = string(req.Workload)
	env["AUTOHEAL_ATTEMPT"] = strconv.Itoa(req.Attempt)
	env["AUTOHEAL_GENERATION"] = req.Generation
	env["AUTOHEAL_NODE"] = node
	if req.Gang != "" {
		env["AUTOHEAL_GANG"] = string(req.Gang)
		env["RANK"] = strconv.Itoa(req.Rank)
		env["WORLD_SIZE"] = strconv.Itoa(req.GangSize)
	}
	list := make([]string, 0, len(env))
	for _, k := range slices.Sorted(maps.Keys(env)) {
		list = append(list, k+"="+env[k])
	}
	return list
}
