// Package redact takes secret values out of free text, such as a log line in which a workload printed one of its own
// variables. What a secret has become after a change of its own (base64, a hash) cannot be told from other text.
//
// Whatever captures or hands out text may import it. It never decides which values are secret.
package redact

import (
	"encoding/json"
	"slices"
	"strings"
)

// Least is the length of the shortest value that is struck, in bytes: a shorter one stands in every text by chance.
const Least = 6

// Values are what must not be told. The zero value has none. It is not safe for concurrent use.
type Values struct {
	words    map[string]string // what stands for them
	replacer *strings.Replacer // of words; nil before it is needed
}

// Add notes a value and what is to stand for it; of one with several lines each line counts, because logs break them. What
// was noted first stands.
func (v *Values) Add(value, with string) {
	for _, word := range append(strings.Split(value, "\n"), value) {
		if word = strings.TrimSpace(word); len(word) < Least {
			continue
		}
		v.add(word, with)
		if q, err := json.Marshal(word); err == nil { // as it reads within quotation marks
			v.add(string(q[1:len(q)-1]), with)
		}
	}
}

func (v *Values) add(word, with string) {
	if _, known := v.words[word]; known {
		return
	}
	if v.words == nil {
		v.words = map[string]string{}
	}
	v.words[word], v.replacer = with, nil
}

// Empty reports whether there is nothing to strike.
func (v *Values) Empty() bool { return len(v.words) == 0 }

// Strike returns a text without the values, in one pass over it. Where one value begins another, the longer one is struck.
func (v *Values) Strike(text string) string {
	if v.Empty() {
		return text
	}
	if v.replacer == nil {
		v.replacer = strings.NewReplacer(v.pairs()...)
	}
	return v.replacer.Replace(text)
}

// pairs are the words and what stands for them, the longest first: a replacer takes the first that fits.
func (v *Values) pairs() []string {
	words := make([]string, 0, len(v.words))
	for w := range v.words {
		words = append(words, w)
	}
	slices.SortFunc(words, func(a, b string) int {
		if len(a) != len(b) {
			return len(b) - len(a)
		}
		return strings.Compare(a, b)
	})
	out := make([]string, 0, 2*len(words))
	for _, w := range words {
		out = append(out, w, v.words[w])
	}
	return out
}
