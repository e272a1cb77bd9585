package program

import (
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

// tail keeps the end of what is written to it.
type tail struct {
	mu  sync.Mutex // guards what follows: a child that was left behind may write still
	buf []byte
	cut bool
}

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := len(b)
	if len(b) > keepOutput {
		b, t.cut = b[len(b)-keepOutput:], true
	}
	if over := len(t.buf) + len(b) - keepOutput; over > 0 {
		t.buf, t.cut = append([]byte(nil), t.buf[over:]...), true
	}
	t.buf = append(t.buf, b...)
	return n, nil
}

// text is what was kept as text that can be shown: whole lines where that leaves something, and no control characters.
func (t *tail) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := string(t.buf)
	if t.cut {
		if _, rest, ok := strings.Cut(s, "\n"); ok && rest != "" {
			s = rest
		}
	}
	return Printable(s)
}

// Printable replaces what is not text, and control characters but line ends and tabs.
func Printable(s string) string {
	return strings.TrimRight(strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || r != utf8.RuneError && unicode.IsPrint(r) {
			return r
		}
		return '.'
	}, s), "\n")
}
