package policy

import (
	"fmt"
	"strings"
)

// suggest returns "did you mean X?" for the nearest of names, or otherwise when none is near.
func suggest(got string, names []string, otherwise string) string {
	if n, ok := nearest(got, names); ok {
		return fmt.Sprintf("did you mean %s?", n)
	}
	return otherwise
}

// nearest returns the name with the fewest edits from got, if they are few for its length.
func nearest(got string, names []string) (string, bool) {
	best, least := "", 0
	for _, n := range names {
		if d := distance(fold(got), fold(n)); best == "" || d < least {
			best, least = n, d
		}
	}
	if best != "" && least <= max(1, min(len(got), len(best))/3) {
		return best, true
	}
	return onlyPrefixed(got, names)
}

// onlyPrefixed returns the one name that begins or ends with got.
func onlyPrefixed(got string, names []string) (string, bool) {
	if len(got) < 3 {
		return "", false
	}
	found := ""
	for _, n := range names {
		if !strings.HasPrefix(n, got) && !strings.HasSuffix(n, "."+got) && !strings.HasSuffix(n, "_"+got) {
			continue
		}
		if found != "" {
			return "", false
		}
		found = n
	}
	return found, found != ""
}

// fold drops case and the separators that people mix up.
func fold(s string) []byte {
	if len(s) > 64 {
		s = s[:64]
	}
	var out []byte
	for i := range len(s) {
		c := s[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != '_' && c != '-' {
			out = append(out, c)
		}
	}
	return out
}

// distance is the Levenshtein distance.
func distance(a, b []byte) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range a {
		diagonal := row[0]
		row[0] = i + 1
		for j := range b {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
