package cgroup

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Version is the control group interface in use.
type Version string

// Versions. None means that limits cannot be enforced by the kernel.
const (
	None Version = ""
	V1   Version = "v1"
	V2   Version = "v2"
)

// controllersV1 are the version 1 hierarchies used where they are mounted. Memory is required; without the freezer,
// killing is a loop that a fork bomb can prolong.
var controllersV1 = []string{"memory", "cpu", "pids", "freezer"}

// Host says what one machine offers.
type Host struct {
	Version Version
	// Mounts maps a version 1 controller to its mount point; version 2 has the one key "".
	Mounts map[string]string
	// Own maps the same keys to this process's group below the mount point.
	Own map[string]string
	// Reason says why Version is None.
	Reason string
}

// Detect reads the machine's mounts.
func Detect() Host {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return Host{Reason: fmt.Sprintf("read mounts: %v", err)}
	}
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return Host{Reason: fmt.Sprintf("read own control group: %v", err)}
	}
	return DetectFrom(string(mounts), string(own), func(path string) string {
		data, err := os.ReadFile(path)
		if err != nil {
			return "" // a unified mount whose controllers cannot be read offers none
		}
		return string(data)
	})
}

// DetectFrom decides from the texts of /proc/self/mountinfo and /proc/self/cgroup; read returns the text of a file, or
// "" if it cannot be read. A unified mount beside version 1 controllers ("hybrid") offers no controllers and is not
// version 2: what decides is where the memory controller is.
func DetectFrom(mountinfo, selfCgroup string, read func(path string) string) Host {
	v1, unified, roots := parseMounts(mountinfo)
	own := parseOwn(selfCgroup)
	for c := range own { // a container may see only the part of the hierarchy below its own group
		point := v1[c]
		if c == "" {
			point = unified
		}
		if root := roots[point]; root != "/" && (own[c] == root || strings.HasPrefix(own[c], root+"/")) {
			own[c] = "/" + strings.TrimPrefix(own[c][len(root):], "/")
		}
	}
	if v1["memory"] != "" {
		h := Host{Version: V1, Mounts: map[string]string{}, Own: map[string]string{}}
		for _, c := range controllersV1 {
			if v1[c] != "" {
				h.Mounts[c], h.Own[c] = v1[c], own[c]
			}
		}
		return h
	}
	if unified == "" {
		return Host{Reason: "no cgroup file system is mounted"}
	}
	offered := strings.Fields(read(filepath.Join(unified, "cgroup.controllers")))
	if !slices.Contains(offered, "memory") {
		return Host{Reason: fmt.Sprintf("%s offers no memory controller (it offers %q)", unified, strings.Join(offered, " "))}
	}
	return Host{Version: V2, Mounts: map[string]string{"": unified}, Own: map[string]string{"": own[""]}}
}

// parseMounts returns the mount point of each version 1 controller, the unified one, and what part of its hierarchy each
// mount point shows. Fields are those of proc(5):
// id parent dev root mountpoint options optional… - type source superoptions.
func parseMounts(text string) (v1 map[string]string, unified string, roots map[string]string) {
	v1, roots = map[string]string{}, map[string]string{}
	for line := range strings.Lines(text) {
		left, right, ok := strings.Cut(line, " - ")
		head, tail := strings.Fields(left), strings.Fields(right)
		if !ok || len(head) < 5 || len(tail) < 3 {
			continue
		}
		point := unescape(head[4])
		roots[point] = unescape(head[3])
		switch tail[0] {
		case "cgroup2":
			if unified == "" {
				unified = point
			}
		case "cgroup":
			for o := range strings.SplitSeq(tail[2], ",") {
				if slices.Contains(controllersV1, o) && v1[o] == "" {
					v1[o] = point
				}
			}
		}
	}
	return v1, unified, roots
}

// unescape undoes the octal escapes that the kernel puts for blanks in paths.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s // nearly always, and a shim reads the mounts between a workload's death and its next start
	}
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// parseOwn maps each controller, and "" for version 2, to the path in its line ID:CONTROLLERS:PATH.
func parseOwn(text string) map[string]string {
	own := map[string]string{}
	for line := range strings.Lines(text) {
		parts := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(parts) != 3 {
			continue
		}
		for c := range strings.SplitSeq(parts[1], ",") {
			own[c] = parts[2]
		}
	}
	return own
}
