package tool

import (
	"encoding/json"
	"strings"

	"autoheal.dev/autoheal/internal/redact"
)

// secrets are values that must not leave the healer. What may leave is named key by key where it is written; this is for
// free text.
type secrets struct{ redact.Values }

// strikeJSON replaces the values in the strings of a JSON text, and leaves its keys, numbers and order alone.
func (s *secrets) strikeJSON(text string) string {
	if s.Empty() {
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
	struck := s.Strike(v)
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
