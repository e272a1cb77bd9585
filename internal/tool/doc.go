// Package tool owns the verbs: what a person, a program or an AI agent can ask of autoheal, one definition each. The
// command line, the HTTP interface and MCP render these definitions and define none of their own.
//
// A verb is a Go function from an input struct to an output struct. The JSON schema, the strict decoding of parameters
// and the JSON of results follow from the types (see New); a golden file per verb in testdata/schemas shows the schema.
// Names, parameters and results of the Clawbernetes tools are kept exactly; what is added is added as new keys.
//
// The packages under internal/surface, internal/app and cmd import it. It reaches the cluster through autoheal.Observer
// and autoheal.Workloads, and everything that changes something through Healer, which the engine implements: no verb
// acts around the engine's gates. It never reads a clock, never starts a goroutine, and never shows the value of an
// environment variable.
package tool
