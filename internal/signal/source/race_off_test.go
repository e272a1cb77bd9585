//go:build !race

package source

// underRace says that the race detector does not watch.
const underRace = false
