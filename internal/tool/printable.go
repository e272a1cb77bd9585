package tool

import (
	"bytes"
	"fmt"
	"strings"
	"unicode"
)

// Printable returns s with everything that a terminal could take as a command written visibly: control characters (ESC,
// C1 and DEL included), line and paragraph separators, and the marks that reorder text. Log text is untrusted.
func Printable(s string) string {
	if !strings.ContainsFunc(s, hostile) {
		return strings.ToValidUTF8(s, "\uFFFD")
	}
	var b strings.Builder
	for _, r := range strings.ToValidUTF8(s, "\uFFFD") {
		switch {
		case r == '\t':
			b.WriteString("    ")
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case hostile(r) && r < 0x100:
			fmt.Fprintf(&b, `\x%02x`, r)
		case hostile(r):
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// hostile reports whether r may not reach a terminal: control and format characters (Cc, Cf: escape sequences, overrides
// of the writing direction, zero-width marks) and the two Unicode line breaks.
func hostile(r rune) bool {
	return unicode.Is(unicode.Cc, r) || unicode.Is(unicode.Cf, r) || r == '\u2028' || r == '\u2029'
}

// EscapeControls copies JSON text to b with every hostile character inside its strings as a \u escape. Outside strings
// JSON has none but white space, which is kept.
func EscapeControls(b *bytes.Buffer, text []byte) {
	for _, r := range string(text) {
		switch {
		case !hostile(r) || r == '\n' || r == '\t' || r == '\r':
			b.WriteRune(r)
		case r > 0xFFFF:
			hi, lo := surrogates(r)
			fmt.Fprintf(b, `\u%04x\u%04x`, hi, lo)
		default:
			fmt.Fprintf(b, `\u%04x`, r)
		}
	}
}

func surrogates(r rune) (hi, lo rune) {
	r -= 0x10000
	return 0xD800 + r>>10, 0xDC00 + r&0x3FF
}
