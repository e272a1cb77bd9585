package policy

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"
)

// rawCodec reads a signal rule as it stands; the signal catalogue, which knows its keys, checks it. Values are text,
// bool, int64, float64, []any and map[string]any.
var rawCodec = codec[map[string]any]{
	name: "map, as the signal catalogue defines it", write: func(m map[string]any) string { return writeAny(m) },
	schema: func() *jsonschema.Schema { return &jsonschema.Schema{Type: "object"} },
	read: func(r *reader, key string, n *node) (map[string]any, bool) {
		if n.shape != isMap {
			r.want(n, key, "a map", "write one rule as key: value lines")
			return nil, false
		}
		v, ok := readAny(r, key, n)
		m, _ := v.(map[string]any)
		return m, ok
	},
}

func readAny(r *reader, key string, n *node) (any, bool) {
	good := true
	switch n.shape {
	case isNull:
		return nil, true
	case isBool:
		return n.text == "true", true
	case isInt:
		v, err := strconv.ParseInt(n.text, 10, 64)
		if err != nil {
			r.bad(n, key, n.describe()+" is not a plain whole number", "write it in decimal, or in quotes as text")
		}
		return v, err == nil
	case isFloat:
		v, err := strconv.ParseFloat(n.text, 64)
		if err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
			r.bad(n, key, n.describe()+" is not a plain number", "write it in decimal, or in quotes as text")
			return nil, false
		}
		return v, true
	case isList:
		out := []any{}
		for i, e := range n.items {
			v, ok := readAny(r, fmt.Sprintf("%s[%d]", key, i), e)
			good = good && ok
			out = append(out, v)
		}
		return out, good
	case isMap:
		out := map[string]any{}
		for _, e := range n.entries {
			v, ok := readAny(r, key+"."+e.key, e.value)
			good = good && ok
			out[e.key] = v
		}
		return out, good
	default:
		return n.text, true
	}
}

// writeAny writes what readAny returned. Text is double-quoted: a rule's regular expressions may span lines.
func writeAny(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case bool:
		return strconv.FormatBool(v)
	case int64:
		return strconv.FormatInt(v, 10)
	case float64:
		s := formatFloat(v)
		if !strings.Contains(s, ".") {
			s += ".0"
		}
		return s
	case []any:
		return listWriter(writeAny)(v)
	case map[string]any:
		var parts []string
		for _, k := range slices.Sorted(maps.Keys(v)) {
			parts = append(parts, doubleQuote(k)+": "+writeAny(v[k]))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	default:
		return doubleQuote(fmt.Sprint(v))
	}
}

// doubleQuote writes text between double quotes with the escapes of YAML, which are not quite Go's.
func doubleQuote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, c := range s {
		switch {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteRune(c)
		case c == '\n':
			b.WriteString(`\n`)
		case c == '\t':
			b.WriteString(`\t`)
		case c < ' ' || c >= 0x7f && c < 0xa0:
			fmt.Fprintf(&b, `\x%02x`, c)
		case c == 0x2028 || c == 0x2029 || c == 0xfeff:
			fmt.Fprintf(&b, `\u%04x`, c)
		default:
			b.WriteRune(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}
