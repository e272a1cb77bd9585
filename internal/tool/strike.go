package tool

import (
	"encoding/json"
	"slices"
	"strings"
)

// secrets are values that must not leave the healer. What may leave is named key by key where it is written; this is for
// free text, such as a log line in which a workload printed one of its own variables.
type secrets struct{ values []string }

// strikeLeast is the shortest value that is struck: a shorter one stands in every text by chance.
const strikeLeast = 6

// add notes a value, and of one with several lines each line: logs break them.
func (s *secrets) add(value string) {
	for _, v := range append(strings.Split(value, "\n"), value) {
		if v = strings.TrimSpace(v); len(v) >= strikeLeast && !slices.Contains(s.values, v) {
			s.values = append(s.values, v)
		}
	}
	slices.SortFunc(s.values, func(a, b string) int { return len(b) - len(a) }) // what holds another one first
}

// strike replaces the values in a text, also as they read within quotation marks.
func (s *secrets) strike(text string) string {
	for _, v := range s.values {
		text = strings.ReplaceAll(text, v, HiddenValue)
		if q, err := json.Marshal(v); err == nil {
			text = strings.ReplaceAll(text, string(q[1:len(q)-1]), HiddenValue)
		}
	}
	return text
}

// strikeJSON replaces the values in the strings of a JSON text, and leaves its keys, numbers and order alone.
func (s *secrets) strikeJSON(text string) string {
	if len(s.values) == 0 {
		return text
	}
	var out strings.Builder
	for n := 0; n < len(text); {
		if text[n] != '"' {
			out.WriteByte(text[n])
			n++
			continue
		}
		end := n + 1
		for end < len(text) && text[end] != '"' {
			if text[end] == '\\' {
				end++
			}
			end++
		}
		end = min(end+1, len(text))
		out.WriteString(s.strikeString(text[n:end], isKey(text[end:])))
		n = end
	}
	return out.String()
}

// strikeString replaces the values in one quoted string.
func (s *secrets) strikeString(quoted string, key bool) string {
	var v string
	if key || json.Unmarshal([]byte(quoted), &v) != nil {
		return quoted
	}
	struck := s.strike(v)
	if struck == v {
		return quoted
	}
	q, err := json.Marshal(struck)
	if err != nil {
		return quoted
	}
	return string(q)
}

// isKey reports whether the string before rest names a key of an object.
func isKey(rest string) bool {
	return strings.HasPrefix(strings.TrimLeft(rest, " \t\n"), ":")
}
