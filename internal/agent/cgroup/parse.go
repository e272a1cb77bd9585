package cgroup

import (
	"strconv"
	"strings"
)

// parseFlat reads lines of KEY VALUE.
func parseFlat(text string) map[string]int64 {
	out := map[string]int64{}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) != 2 {
			continue
		}
		if n, err := strconv.ParseInt(f[1], 10, 64); err == nil {
			out[f[0]] = n
		}
	}
	return out
}

func readInt(path string) int64 {
	n, err := strconv.ParseInt(strings.TrimSpace(readText(path)), 10, 64)
	if err != nil {
		return 0 // "max" and absent files count nothing
	}
	return n
}

// readMB rounds up, so that a group with anything in it never shows zero.
func readMB(path string) int64 { return (readInt(path) + 1<<20 - 1) >> 20 }
