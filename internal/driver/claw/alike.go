package claw

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"

	"autoheal.dev/autoheal"
)

// specHash is the same for specs that run the same program in the same way, whatever they are called and however much they
// get. Of the environment only the names count: what the values are is nobody's business but the workload's (behaviour F6).
func specHash(s autoheal.Spec) string {
	h := sha256.New()
	part := func(what string, values ...string) {
		fmt.Fprintf(h, "%s %d\n", what, len(values))
		for _, v := range values {
			fmt.Fprintf(h, "%d %s\n", len(v), v)
		}
	}
	part("image", s.Image)
	part("command", s.Command...)
	part("args", s.Args...)
	part("env", slices.Sorted(maps.Keys(s.Env))...)
	return hex.EncodeToString(h.Sum(nil))[:12]
}
