// Package httpapi owns the local door: the verbs of internal/tool as POST /api/v1/tools/NAME, their list, a stream of
// changes, and two health checks, served on a unix socket that only its owner can open.
//
// internal/app starts it; internal/surface/client is its other end. It renders verbs and defines none. It never acts on
// a cluster itself, never listens on a network, and never writes what a request carried to the log.
package httpapi
