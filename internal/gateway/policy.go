package gateway

import (
	"fmt"
	"slices"

	"autoheal.dev/autoheal/internal/openclaw"
)

// platformDefaults are allowed without being listed. Only the exact platform name counts, as in the real gateway, which
// takes "linux x86_64" for an unknown platform that has no defaults.
var platformDefaults = map[string][]string{
	"linux": {"system.run", "system.run.prepare", "system.which"},
}

// allowed reports whether the policy lets a command run on a platform.
func (g *Gateway) allowed(platform, command string) bool {
	return g.allow[command] || slices.Contains(platformDefaults[platform], command)
}

// offered returns what of the declared commands the policy allows: only these are put up for approval, as in the real
// gateway, so that allowing a command later asks for a new approval.
func (g *Gateway) offered(p *openclaw.ConnectParams) []string {
	out := make([]string, 0, len(p.Commands))
	for _, c := range p.Commands {
		if g.allowed(p.Client.Platform, c) {
			out = append(out, c)
		}
	}
	return out
}

// effective returns the commands that may be invoked: declared by the node, approved, and allowed by the policy.
func (g *Gateway) effective(declared, approved []string, platform string) []string {
	out := make([]string, 0, len(declared))
	for _, c := range declared {
		if slices.Contains(approved, c) && g.allowed(platform, c) && !slices.Contains(out, c) {
			out = append(out, c)
		}
	}
	return out
}

// covers reports whether approved holds all of declared.
func covers(approved, declared []string) bool {
	for _, d := range declared {
		if !slices.Contains(approved, d) {
			return false
		}
	}
	return true
}

// rejectCommand says why a command may not be invoked, nil if it may.
func (g *Gateway) rejectCommand(c *conn, command string) *openclaw.Error {
	platform := c.params.Client.Platform
	switch {
	case !g.allowed(platform, command):
		return commandError("command not allowlisted", command,
			fmt.Sprintf("%q is not in the allowlist for platform %q", command, platform))
	case len(c.params.Commands) == 0:
		return commandError("node did not declare commands", command, "the node did not declare any supported commands")
	case !slices.Contains(c.params.Commands, command):
		return commandError("command not declared by node", command,
			fmt.Sprintf("the node (platform: %s) does not support %q", platform, command))
	}
	return nil
}

func commandError(reason, command, text string) *openclaw.Error {
	return &openclaw.Error{
		Code: openclaw.CodeInvalidRequest, Message: "node command not allowed: " + text,
		Details: openclaw.NewDetails(map[string]any{"reason": reason, "command": command, "outcome": openclaw.OutcomeNotSent}),
	}
}

// approveScopes are what the real gateway asks of the operator who approves a surface.
func approveScopes(commands []string) []string {
	scopes := []string{"operator.pairing", "operator.write"}
	if slices.Contains(commands, "system.run") || slices.Contains(commands, "system.which") {
		scopes = append(scopes, "operator.admin")
	}
	return scopes
}
