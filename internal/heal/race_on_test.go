//go:build race

package heal

// underRace says that the race detector watches: a tenth of the worlds is enough for it, they all run in one goroutine.
const underRace = true
