package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"autoheal.dev/autoheal"
)

// daemons hold the devices of all GPUs and are no work: NVIDIA's persistence daemon and DCGM's host engine, as the kernel
// cuts their names. The driver's own tool refuses to reset a GPU that they hold; a site's program may stop them first.
var daemons = []string{"nvidia-persiste", "nv-hostengine"}

// holders names the processes that have the device N of a GPU open, or that of any GPU where N is not known.
func holders(proc, device string, minor int) []string {
	entries, err := filepath.Glob(filepath.Join(proc, "[0-9]*"))
	if err != nil {
		return nil // only a malformed pattern is an error
	}
	var out []string
	for _, p := range entries {
		fds, err := os.ReadDir(filepath.Join(p, "fd"))
		if err != nil {
			continue // it has ended, or is another user's, which only root can see
		}
		for _, fd := range fds {
			target, err := os.Readlink(filepath.Join(p, "fd", fd.Name()))
			number, ours := strings.CutPrefix(target, device)
			n, numErr := strconv.Atoi(number)
			if err != nil || !ours || numErr != nil || minor >= 0 && n != minor {
				continue
			}
			name := strings.TrimSpace(readProc(filepath.Join(p, "comm")))
			if !slices.Contains(daemons, name) {
				out = append(out, fmt.Sprintf("process %s (%s)", filepath.Base(p), name))
			}
			break
		}
	}
	return out
}

// heldLocked says which attempts hold which GPUs, or are about to.
func (a *Agent) heldLocked() map[autoheal.GPUID]key {
	held := map[autoheal.GPUID]key{}
	a.liveLocked(func(at *attempt) {
		for _, id := range at.spec.Start.GPUs {
			held[id] = at.key
		}
	})
	for k, other := range a.starting {
		for _, id := range other.GPUs {
			held[id] = k
		}
	}
	return held
}
