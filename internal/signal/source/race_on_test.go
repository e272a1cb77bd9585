//go:build race

package source

// underRace says that the race detector watches: it allocates for what the program itself does not.
const underRace = true
