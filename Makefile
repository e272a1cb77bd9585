# Every target can be run alone. `make check` is all that CI does.
SHELL := /bin/bash
.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: check
check: ## all that CI does: build, vet, architecture, unit, lint, race, real, drills, leaks, with a table of times
	@scripts/check

.PHONY: build
build: ## build bin/autoheal, static, with the version of the source in it
	@scripts/build

.PHONY: test
test: ## run the unit tests (cached by the go command)
	@source scripts/env.sh; go test -skip '^TestReal' ./...

.PHONY: race
race: ## run the unit tests under the race detector, but for packages that link Kubernetes or Prometheus
	@scripts/check race

.PHONY: real
real: ## run the tests that use this machine's processes and control groups; all need only Linux, more runs as root
	@scripts/check real leaks

.PHONY: drill
drill: build ## break a throw-away cluster in every way that the product heals, and watch it heal
	@scripts/check drill leaks

.PHONY: lint
lint: ## run the linters
	@scripts/lint

.PHONY: fmt
fmt: ## rewrite the source in the form that lint asks for
	@source scripts/env.sh; go fix ./... && go_files | xargs -r -d '\n' go tool -modfile=go.tools.mod gofumpt -w

.PHONY: bench
bench: ## run every benchmark; docs/benchmarks.md says how to read and record them
	@scripts/bench

.PHONY: soak
soak: build ## simulate and drill with every crash point, over and over (SOAK_ROUNDS, SOAK_FAULTS); minutes to hours
	@scripts/soak
