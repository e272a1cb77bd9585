# Sourced by the scripts beside it: one environment for every stage, the same on a developer's machine and in CI.
# shellcheck shell=bash
set -euo pipefail
exec </dev/null

cd "$(dirname "${BASH_SOURCE[0]}")/.."
command -v go >/dev/null || PATH=$PATH:/usr/local/go/bin
command -v go >/dev/null || { echo "error: go is not on PATH; install the version that go.mod names" >&2; exit 1; }
# A service account may come without a home; the go command needs a place for its caches.
export HOME=${HOME:-$(mktemp -d)}
export GOTOOLCHAIN=local CGO_ENABLED=0
# The version is stamped below; asking git through the go command fails in a clone that belongs to another user.
export GOFLAGS="${GOFLAGS:-} -buildvcs=false"

# tool NAME ARGS… runs a pinned tool of go.tools.mod.
tool() { go tool -modfile=go.tools.mod "$@"; }

# version prints what `autoheal version` will say: the tag or commit, marked when the tree has changes.
version() {
	git -c safe.directory="$PWD" describe --tags --always --dirty 2>/dev/null || echo unknown
}

# go_files lists the Go sources of this module, with or without a git around it.
go_files() {
	find . \( -name testdata -o -name node_modules -o -name '.?*' -o -name bin \) -prune -o -name '*.go' -print | sort
}
