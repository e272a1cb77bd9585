// Package cli owns the commands that talk to a running healer: it calls verbs through internal/surface/client and shows
// their results as tables, JSON or YAML.
//
// cmd/autoheal adds these commands to its root, beside those that need no healer. The package defines no verb and holds
// no state. It never writes untrusted text to a terminal as it came, never reads the environment or a clock except
// through Deps, and never ends the process.
package cli
