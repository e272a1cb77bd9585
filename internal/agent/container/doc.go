// Package container owns the way to a container engine: the part of the Docker Engine API that Podman answers too, as
// plain HTTP over a unix socket.
//
// internal/agent looks for engines with it and internal/agent/shim runs one container with it; nobody else imports it.
// It speaks HTTP/1.1 by itself, one connection per request: the shim that is linked with it must stay a few MiB small,
// and net/http alone would double it. It never keeps state and never starts a goroutine.
package container
