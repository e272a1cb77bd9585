package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Places a setting can come from beside a file.
const (
	OriginDefault = "default"
	OriginEnv     = "env"
	OriginFlag    = "flag"
)

// Problem is one thing that is wrong with a configuration. File is the file's path, OriginEnv or OriginFlag; Line and
// Column count from 1 and are 0 where there is no place.
type Problem struct {
	File         string
	Line, Column int
	Key          string
	Detail       string
	Remedy       string

	keys []string // of a check across keys: all that took part
}

// String returns "FILE:LINE:COL: KEY: DETAIL (REMEDY)", leaving out what is unknown.
func (p Problem) String() string {
	var b strings.Builder
	if p.File != "" {
		b.WriteString(p.File)
		if p.Line > 0 {
			fmt.Fprintf(&b, ":%d:%d", p.Line, p.Column)
		}
		b.WriteString(": ")
	}
	if p.Key != "" {
		b.WriteString(p.Key + ": ")
	}
	b.WriteString(p.Detail)
	if p.Remedy != "" {
		b.WriteString(" (" + p.Remedy + ")")
	}
	return b.String()
}

// Problems are all things wrong with a configuration at once: those of the file in its order, then those of the
// environment, then those of flags.
type Problems []Problem

// Error returns one problem a line.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

func (ps Problems) sort() {
	rank := func(p Problem) int {
		switch p.File {
		case OriginEnv:
			return 1
		case OriginFlag:
			return 2
		case OriginDefault:
			return 3
		default:
			return 0
		}
	}
	slices.SortStableFunc(ps, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column),
			cmp.Compare(a.Key, b.Key), cmp.Compare(a.Detail, b.Detail))
	})
}
