package signal

import (
	"bytes"
	"regexp"
	"strconv"
	"strings"
)

// Rules with Exception see the text of an exception only: "ValueError: bad shape", without the rank, process, date and
// file that a logger put before it. So the words of an error in prose, in code, in arguments, or in a line about an error
// that a program handled, are no evidence.

// maxDecorations is how many tokens may stand before an exception.
const maxDecorations = 16

// decoration is one token that loggers put before a message. Its group is a level.
var decoration = regexp.MustCompile(`^(?:` + strings.Join([]string{
	`\[([EWIF])(?:\d{3,4})? [^\[\]]{1,160}\]:? ?`,                     // [W socket.cpp:436]
	`\[[^\[\]]{1,160}\](?:<std(?:err|out)>)?:? ?`,                     // [rank0]: [core.py:396] [1,0]<stderr>:
	`\((?:[^()]*\b(?:pid|rank|ip)=[^()]*)\):? ?`,                      // (APIServer pid=1)
	`(?:rank ?\d{1,5}|[\w.-]*\d[\w.-]{0,60}): `,                       // rank0: worker-5: and the label of srun
	`\d[\dTZ:.,+/-]{4,} ?(?:\[[^\]]*\])?`,                             // dates and clocks
	`\d+ `,                                                            // a process
	`\(\w{1,40}\) `,                                                   // (Process)
	`(?:\w+[:/])?[\w./-]+\.(?:py|cc|cpp|cu|hpp|h|rs|go):\d+\]?[: ] ?`, // file.py:12]
	`(ERROR|CRITICAL|FATAL|SEVERE|WARNING|WARN|INFO|DEBUG|NOTICE|TRACE|Error|Warning|error|warning|info)(?::[\w.]+)?[: ]+(?:\| ?)?`,
	`([EWIF])(?:\d{3,4} |  +)`,                                                                  // glog, and E of pytest
	`[\w.-]{1,64} *\| ?`, `[|│•] ?`, `> `, `[\w.-]{1,64}/\d{1,5} `, `std(?:err|out)(?: [FP])? `, // docker compose, frames around tracebacks
	`[\w.-]{1,64} - `, `- `, // the parts that Python's logging is often told to write
}, "|") + `)`)

// exceptionEnds are how the names of exceptions end.
var exceptionEnds = []string{"Error", "Exception", "Interrupt", "Exit", "Timeout", "timeout", "Expired", "gaierror", "error", "OutOfMemory", "BadZipFile", "ArrowInvalid", "BrokenProcessPool"}

// byThread is how the watchdogs of process groups introduce the exception that ended them.
var byThread = []byte("terminated with exception: ")

// exceptionText returns the exception that a line reports. It is none if the line is of a level that says that the
// program went on.
func exceptionText(line []byte) ([]byte, bool) {
	text := line
	for range maxDecorations {
		text = bytes.TrimLeft(text, " \t")
		at := decoration.FindSubmatchIndex(text)
		if at == nil || at[1] == 0 || isException(text) {
			break
		}
		for g := 2; g < len(at); g += 2 {
			if at[g] >= 0 && goesOn(text[at[g]]) {
				return nil, false
			}
		}
		text = text[at[1]:]
	}
	if _, after, ok := bytes.Cut(text, byThread); ok {
		return after, true
	}
	return text, isException(text)
}

// goesOn tells by its first letter a level below that of an error.
func goesOn(level byte) bool { return bytes.IndexByte([]byte("WwIiDNT"), level) >= 0 }

// isException says whether a text begins with the name of an exception, or with what() of C++.
func isException(text []byte) bool {
	if bytes.HasPrefix(text, []byte("what():")) {
		return true
	}
	end := 0
	for end < len(text) && isNameByte(text[end]) {
		end++
	}
	if end == 0 || end > 200 || isDigit(text[0]) {
		return false
	}
	name := string(text[:end])
	rest := text[end:]
	if len(rest) > 0 && rest[0] == '(' { // RayTaskError(ValueError)
		if inner := bytes.IndexByte(rest, ')'); inner > 0 {
			rest = rest[inner+1:]
		}
	}
	if len(bytes.TrimSpace(rest)) > 0 && rest[0] != ':' {
		return false
	}
	if isMeasure(rest) {
		return false
	}
	for _, e := range exceptionEnds {
		if strings.HasSuffix(name, e) && (len(name) > len(e) || e == "Exception") {
			return true
		}
	}
	return false
}

// isMeasure knows the metrics that are called errors, such as "MeanSquaredError: 0.0231".
func isMeasure(rest []byte) bool {
	value := bytes.TrimSpace(bytes.TrimPrefix(rest, []byte{':'}))
	end := bytes.IndexByte(value, '.')
	if end < 1 || end > 12 || len(value) > 40 {
		return false
	}
	_, err := strconv.ParseFloat(string(bytes.TrimRight(value, ",;")), 64)
	return err == nil
}

func isNameByte(c byte) bool {
	return c == '.' || c == '_' || isDigit(c) || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// takeRank gives a match the rank that a launcher put before its line. It stands above one from the text, which may be
// that in a group of some of the processes.
func (m *Match) takeRank(message []byte) {
	rest, ok := bytes.CutPrefix(message, []byte("[rank"))
	if !ok || m.Rule.Kind == KindKernel {
		return
	}
	end := bytes.IndexByte(rest, ']')
	if end < 1 || end > 6 {
		return
	}
	if _, ok := number(rest[:end]); !ok {
		return
	}
	if m.Fields == nil {
		m.Fields = map[string]string{}
	}
	if r := m.Fields["rank"]; r != "" && r != string(rest[:end]) {
		m.Fields["group_rank"] = r
	}
	m.Fields["rank"] = string(rest[:end])
}
