package policy

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/jsonschema-go/jsonschema"
)

// codec reads and writes one type of setting. read reports what is wrong itself and then returns false; write returns
// YAML in flow style that read accepts.
type codec[T any] struct {
	name   string // as the reference page calls it
	read   func(r *reader, key string, n *node) (T, bool)
	write  func(T) string
	show   func(T) string // what people see, where that hides a secret; nil = write
	schema func() *jsonschema.Schema
	raw    bool               // environment and flags hand their text over as it is, not as YAML
	extend func(old, add T) T // a map: KEY.NAME=VALUE on the command line sets one entry
}

func (r *reader) want(n *node, key, what, remedy string) {
	r.bad(n, key, fmt.Sprintf("want %s, got %s", what, n.describe()), remedy)
}

// describe says what stands at n, short enough for one line.
func (n *node) describe() string {
	switch n.shape {
	case isMap, isList:
		return string(n.shape)
	case isNull:
		return "nothing"
	default:
		t := n.text
		if len(t) > 60 {
			t = strings.ToValidUTF8(t[:60], "") + "…"
		}
		return strconv.Quote(t)
	}
}

func (n *node) scalar() bool { return n.shape != isMap && n.shape != isList && n.shape != isNull }

func typed(t string) func() *jsonschema.Schema {
	return func() *jsonschema.Schema { return &jsonschema.Schema{Type: t} }
}

func pattern(re string) func() *jsonschema.Schema {
	return func() *jsonschema.Schema { return &jsonschema.Schema{Type: "string", Pattern: re} }
}

var boolCodec = codec[bool]{
	name: "true or false", write: strconv.FormatBool, schema: typed("boolean"),
	read: func(r *reader, key string, n *node) (bool, bool) {
		if n.shape == isBool && (n.text == "true" || n.text == "false") {
			return n.text == "true", true
		}
		r.want(n, key, "true or false", "write true or false, without quotes")
		return false, false
	},
}

func intCodec(least, most int) codec[int] {
	return codec[int]{
		name: fmt.Sprintf("whole number from %d to %d", least, most), write: strconv.Itoa,
		schema: func() *jsonschema.Schema {
			return &jsonschema.Schema{Type: "integer", Minimum: new(float64(least)), Maximum: new(float64(most))}
		},
		read: func(r *reader, key string, n *node) (int, bool) {
			v, err := strconv.Atoi(n.text)
			// 010 is eight to some readers and ten to others, so only the plain form is taken.
			if n.shape == isInt && err == nil && v >= least && v <= most && strconv.Itoa(v) == n.text {
				return v, true
			}
			r.want(n, key, fmt.Sprintf("a whole number from %d to %d", least, most), fmt.Sprintf("for example %d", max(least, min(3, most))))
			return 0, false
		},
	}
}

func numberCodec(above, most float64, example string) codec[float64] {
	return codec[float64]{
		name: fmt.Sprintf("number above %s, at most %s", formatFloat(above), formatFloat(most)), write: formatFloat,
		schema: func() *jsonschema.Schema {
			return &jsonschema.Schema{Type: "number", ExclusiveMinimum: new(above), Maximum: new(most)}
		},
		read: func(r *reader, key string, n *node) (float64, bool) {
			v, err := strconv.ParseFloat(n.text, 64)
			if (n.shape == isInt || n.shape == isFloat) && err == nil && v > above && v <= most && !math.IsNaN(v) {
				return v, true
			}
			r.want(n, key, fmt.Sprintf("a number above %s, at most %s", formatFloat(above), formatFloat(most)), "for example "+example)
			return 0, false
		},
	}
}

const durationPattern = `^([0-9]+(\.[0-9]+)?d)?([0-9]+(\.[0-9]+)?(h|m|s|ms|us|µs|ns))*$`

// durationCodec reads a duration of at least least.
func durationCodec(least time.Duration) codec[time.Duration] {
	return codec[time.Duration]{
		name: "duration", write: FormatDuration,
		schema: pattern(durationPattern),
		read: func(r *reader, key string, n *node) (time.Duration, bool) {
			if n.shape == isInt || n.shape == isFloat {
				r.bad(n, key, fmt.Sprintf("the duration %s has no unit", n.text), fmt.Sprintf("write %ss, %sm or %sh", n.text, n.text, n.text))
				return 0, false
			}
			if n.shape != isText {
				r.want(n, key, "a duration", "for example 90s, 5m, 1h30m or 7d")
				return 0, false
			}
			d, err := ParseDuration(n.text)
			if err != nil {
				r.bad(n, key, fmt.Sprintf("%s is %v", n.describe(), err), "write a number with a unit, for example 90s, 5m, 1h30m or 7d")
				return 0, false
			}
			if d < least {
				r.bad(n, key, fmt.Sprintf("%s is less than %s", n.text, FormatDuration(least)), "write at least "+FormatDuration(least))
				return 0, false
			}
			return d, true
		},
	}
}

const sizePattern = `^[0-9]{1,19}(B|KiB|MiB|GiB|TiB)$`

// sizeCodec reads a size in bytes of at least least.
func sizeCodec(least int64) codec[int64] {
	return codec[int64]{
		name: "size", write: FormatSize, schema: pattern(sizePattern),
		read: func(r *reader, key string, n *node) (int64, bool) { return r.size(key, n, least) },
	}
}

// memoryCodec reads an optional size as whole MiB; "" means none.
var memoryCodec = codec[int64]{
	name: `size, or "" for none`, schema: pattern(`^([0-9]{1,19}(KiB|MiB|GiB|TiB))?$`),
	write: func(mb int64) string {
		if mb == 0 {
			return `""`
		}
		return FormatSize(mb * mib)
	},
	read: func(r *reader, key string, n *node) (int64, bool) {
		if n.shape == isText && n.text == "" {
			return 0, true
		}
		b, ok := r.size(key, n, mib)
		if ok && b%mib != 0 {
			r.bad(n, key, n.text+" is not a whole number of MiB", "for example 512GiB")
			return 0, false
		}
		return b / mib, ok
	},
}

func (r *reader) size(key string, n *node, least int64) (int64, bool) {
	if !n.scalar() {
		r.want(n, key, "a size", "for example 512MiB or 1GiB")
		return 0, false
	}
	b, err := ParseSize(n.text)
	if err != nil {
		r.bad(n, key, fmt.Sprintf("%s is %v", n.describe(), err), "write a whole number with a unit of B, KiB, MiB, GiB or TiB, for example 512MiB")
		return 0, false
	}
	if b < least {
		r.bad(n, key, fmt.Sprintf("%s is less than %s", n.text, FormatSize(least)), "write at least "+FormatSize(least))
		return 0, false
	}
	return b, true
}

// fractionCodec reads "50%" as 0.5. A bare number is refused: 50 and 0.5 both have readers who mean half.
var fractionCodec = codec[float64]{
	name: "percentage", schema: pattern(percentRE.String()),
	write: func(f float64) string { return formatPercent(f * 100) },
	read: func(r *reader, key string, n *node) (float64, bool) {
		if !n.scalar() {
			r.want(n, key, "a percentage", "for example 50%")
			return 0, false
		}
		f, err := parsePercent(n.text)
		if err != nil || f == 0 {
			r.bad(n, key, n.describe()+" is not a percentage above 0% and up to 100%", "write the sign, for example 50%")
			return 0, false
		}
		return f / 100, true
	},
}

var limitCodec = codec[Limit]{
	name:  "whole number or percentage",
	write: func(l Limit) string { return l.String() },
	schema: func() *jsonschema.Schema {
		return &jsonschema.Schema{AnyOf: []*jsonschema.Schema{
			{Type: "integer", Minimum: new(float64(0)), Maximum: new(1e6)}, {Type: "string", Pattern: percentRE.String()},
		}}
	},
	read: func(r *reader, key string, n *node) (Limit, bool) {
		if v, err := strconv.Atoi(n.text); n.shape == isInt && err == nil && v >= 0 && v <= 1_000_000 && strconv.Itoa(v) == n.text {
			return Limit{Count: v}, true
		}
		if f, err := parsePercent(n.text); n.shape == isText && err == nil {
			return Limit{Percent: f}, true
		}
		r.want(n, key, "a whole number, or a percentage with its sign", "for example 2 or 5%")
		return Limit{}, false
	},
}

var occurrencesCodec = codec[Occurrences]{
	name: "N in TIME", schema: pattern(`^[0-9]{1,6} +in +\S+$`),
	write: func(o Occurrences) string { return o.String() },
	read: func(r *reader, key string, n *node) (Occurrences, bool) {
		if n.shape != isText {
			r.want(n, key, "a count in a time", "for example 3 in 1h")
			return Occurrences{}, false
		}
		o, err := parseOccurrences(n.text)
		if err != nil {
			r.bad(n, key, fmt.Sprintf("%s: %v", n.describe(), err), "write N in TIME, for example 3 in 1h")
			return Occurrences{}, false
		}
		return o, true
	},
}

// textCodec reads any text that check accepts; check may be nil.
func textCodec(name string, check func(string) (detail, remedy string)) codec[string] {
	return codec[string]{
		name: name, write: quote, schema: typed("string"), raw: true,
		read: func(r *reader, key string, n *node) (string, bool) {
			if n.shape != isText {
				remedy := "put it in quotes"
				if n.shape == isNull {
					remedy = `write "" for none`
				}
				r.want(n, key, name, remedy)
				return "", false
			}
			if strings.ContainsFunc(n.text, func(c rune) bool { return c < ' ' || c == 0x7f || c == 0xfeff || c == 0xfffe || c == 0xffff }) {
				r.bad(n, key, n.describe()+" holds control characters", "write it on one line")
				return "", false
			}
			if check != nil {
				if detail, remedy := check(n.text); detail != "" {
					r.bad(n, key, detail, remedy)
					return "", false
				}
			}
			return n.text, true
		},
	}
}

// enumCodec reads one of a closed set of words.
func enumCodec[T ~string](words ...T) codec[T] {
	names := make([]string, len(words))
	for i, w := range words {
		names[i] = string(w)
	}
	return codec[T]{
		name: "one of " + strings.Join(names, ", "), write: func(v T) string { return quote(string(v)) },
		schema: func() *jsonschema.Schema { return &jsonschema.Schema{Type: "string", Enum: anys(names)} },
		read: func(r *reader, key string, n *node) (T, bool) {
			if n.scalar() && slices.Contains(names, n.text) {
				return T(n.text), true
			}
			r.want(n, key, "one of "+strings.Join(names, ", "), suggest(n.text, names, "write one of these words"))
			return "", false
		},
	}
}

func anys[T any](in []T) []any {
	out := make([]any, len(in))
	for i, v := range in {
		out[i] = v
	}
	return out
}

var plainRE = regexp.MustCompile(`^[A-Za-z_/][A-Za-z0-9_./@-]*$`)

// quote writes text as a YAML scalar: plain where nothing can misread it, else between single quotes.
func quote(s string) string {
	switch strings.ToLower(s) {
	case "true", "false", "yes", "no", "on", "off", "y", "n", "null", "nan", "inf":
		return "'" + s + "'"
	}
	if plainRE.MatchString(s) {
		return s
	}
	if s == "" {
		return `""`
	}
	return "'" + strings.ReplaceAll(s, "'", "''") + "'"
}
