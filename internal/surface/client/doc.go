// Package client owns the calling side of the HTTP interface: one Client that calls verbs by name and follows changes.
//
// The command line, the drills and tests import it. It knows no verb: names, parameters and results are those of
// internal/tool, as JSON. It never talks to a cluster, and never writes what it received anywhere.
package client
