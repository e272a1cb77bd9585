// Package mcp offers the verbs to AI agents over the Model Context Protocol: as tools with schemas and annotations of their
// effect, with prompts for the two things that an agent is asked to do, and incidents, post-mortems and the configuration as
// resources.
//
// cmd imports it. It is a client of a running healer like the command line, calls in the name of an AI agent, and defines no
// verb of its own. Whatever the cluster's programs may have written (logs, names, labels, messages) reaches the model only
// between marks that nothing inside can close, or in the structured result, which says of itself that it is untrusted. It
// never reads a clock and acts on nothing that a log says.
package mcp
