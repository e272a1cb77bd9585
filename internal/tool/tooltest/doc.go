// Package tooltest owns a healer and a cluster in memory for the tests of the verbs and of what renders them: real data
// structures that commands change, streams of changes, and a clock that stands still.
//
// Only tests of internal/tool and internal/surface import it. It decides nothing as the engine would: what a test wants
// held, refused or healed it says itself. It never sleeps and starts no goroutine.
package tooltest
