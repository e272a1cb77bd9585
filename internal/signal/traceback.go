package signal

// tracebackReach is how many lines after a line that speaks of an exception that exception is looked for.
const tracebackReach = 100

// What a context line says of the exceptions around it, as the key traceback of a rule.
const (
	tracebackChained = "chained" // the exception above was handled; the one below replaces it
	tracebackIgnored = "ignored" // the exception below ends nothing
)

// tracebacks follows what Python says between exceptions, so that the last one of a chain decides, and one in a
// destructor counts for nothing. It is part of a Stream.
type tracebacks struct {
	last    int // line of the last exception; 0 if none
	chained int // line of the exception that the next one replaces; 0 if none
	ignored int // line that said that the next exception ends nothing; 0 if none
}

// note takes in a context line.
func (t *tracebacks) note(says string, line int) {
	switch says {
	case tracebackChained:
		t.chained = t.last
	case tracebackIgnored:
		t.ignored = line
	}
}

// see takes in an exception and says whether it ends nothing, and the line of the exception that it replaces, 0 if none.
func (t *tracebacks) see(line int) (ignored bool, replaces int) {
	if from := t.ignored; from > 0 {
		t.ignored = 0
		if line-from <= tracebackReach {
			return true, 0
		}
	}
	if from := t.chained; from > 0 && line-from <= 2*tracebackReach {
		replaces = from
	}
	t.last, t.chained = line, 0
	return false, replaces
}
