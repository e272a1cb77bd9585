package drill

import (
	"fmt"
	"io"
	"strings"
	"time"

	"autoheal.dev/autoheal/internal/clock"
)

// line is the live line of one drill: rewritten in place on a terminal, printed once at its end elsewhere.
type line struct {
	out      io.Writer
	terminal bool
	name     string
	clock    clock.Clock
	began    time.Time
}

func newLine(opt Options, name string) *line {
	out := opt.Live
	if out == nil {
		out = io.Discard
	}
	l := &line{out: out, terminal: opt.Terminal, name: name, clock: opt.Clock, began: opt.Clock.Now()}
	l.say("waiting")
	return l
}

// clearLine goes to the start of a terminal's line and empties it.
const clearLine = "\r\x1b[K"

// say shows what the drill does now.
func (l *line) say(what string) {
	if l.terminal {
		fmt.Fprintf(l.out, "%s%-13s …      %s", clearLine, l.name, what)
	}
}

// end leaves the line with its verdict.
func (l *line) end(verdict string) {
	if l.terminal {
		fmt.Fprint(l.out, clearLine)
	}
	fmt.Fprintf(l.out, "%-13s %s (%.1f s)\n", l.name, verdict, l.clock.Now().Sub(l.began).Seconds())
}

// verdict says in words how a drill ended.
func verdict(r Row) string {
	switch {
	case r.Skipped != "":
		return "skipped: " + r.Skipped
	case r.Passed:
		return "ok      " + *r.Result
	default:
		var text strings.Builder
		text.WriteString("FAILED ")
		for i, p := range r.Problems {
			if i > 0 {
				text.WriteString("; ")
			}
			text.WriteString(p)
		}
		return text.String()
	}
}
