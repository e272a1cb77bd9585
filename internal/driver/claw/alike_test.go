package claw

import (
	"strings"
	"testing"

	"autoheal.dev/autoheal"
)

func TestSpecHash(t *testing.T) {
	base := autoheal.Spec{Name: "a", Image: "app:1", Command: []string{"run"}, Args: []string{"--x"}, Env: map[string]string{"TOKEN": "one"}}
	alike, other := base, base
	alike.Name, alike.MemoryMB, alike.Env = "b", 4096, map[string]string{"TOKEN": "two"}
	if specHash(alike) != specHash(base) {
		t.Error("name, size and the values of the environment make another program of it")
	}
	if strings.Contains(specHash(base), "one") || len(specHash(base)) != 12 {
		t.Errorf("hash %q", specHash(base))
	}
	for what, change := range map[string]func(s *autoheal.Spec){
		"image":             func(s *autoheal.Spec) { s.Image = "app:2" },
		"command":           func(s *autoheal.Spec) { s.Command = []string{"walk"} },
		"command and args":  func(s *autoheal.Spec) { s.Command, s.Args = []string{"run", "--x"}, nil },
		"environment names": func(s *autoheal.Spec) { s.Env = map[string]string{"KEY": "one"} },
	} {
		other = base
		change(&other)
		if specHash(other) == specHash(base) {
			t.Errorf("another %s is the same program", what)
		}
	}
}
