package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"autoheal.dev/autoheal/internal/tool"
)

// writeYAML writes JSON as YAML, keys in their order. Strings that YAML could read as something else, or that hold
// anything unusual, are written as JSON strings, which YAML reads the same; so no control character gets through.
func writeYAML(out *bytes.Buffer, raw json.RawMessage) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	y := yamlWriter{out: out, d: d}
	if err := y.value("", false); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one value")
	}
	return nil
}

type yamlWriter struct {
	out *bytes.Buffer
	d   *json.Decoder
}

// value writes the next value. inline says that a key or a dash stands before it on the same line.
func (y *yamlWriter) value(indent string, inline bool) error {
	tok, err := y.d.Token()
	if err != nil {
		return err
	}
	switch tok {
	case json.Delim('{'):
		return y.collection(indent, inline, "{}", y.entry)
	case json.Delim('['):
		return y.collection(indent, inline, "[]", y.item)
	}
	if inline {
		y.out.WriteByte(' ')
	}
	y.out.WriteString(yamlScalar(tok) + "\n")
	return nil
}

func (y *yamlWriter) collection(indent string, inline bool, empty string, each func(string) error) error {
	if !y.d.More() {
		if inline {
			y.out.WriteByte(' ')
		}
		y.out.WriteString(empty + "\n")
		_, err := y.d.Token()
		return err
	}
	if inline {
		y.out.WriteByte('\n')
	}
	for y.d.More() {
		if err := each(indent); err != nil {
			return err
		}
	}
	_, err := y.d.Token()
	return err
}

func (y *yamlWriter) entry(indent string) error {
	key, err := y.d.Token()
	if err != nil {
		return err
	}
	y.out.WriteString(indent + yamlScalar(key) + ":")
	return y.value(indent+"  ", true)
}

func (y *yamlWriter) item(indent string) error {
	y.out.WriteString(indent + "-")
	return y.value(indent+"  ", true)
}

// plainYAML is what needs no quotes: it begins with a letter and holds nothing that YAML gives a meaning.
var plainYAML = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_./()%+-]*( [A-Za-z0-9_./()%+-]+)*$`)

func yamlScalar(tok json.Token) string {
	switch v := tok.(type) {
	case nil:
		return "null"
	case string:
		if plainYAML.MatchString(v) && !yamlWord(v) {
			return v
		}
		var b bytes.Buffer
		quoted, err := json.Marshal(v)
		if err != nil {
			return `""`
		}
		tool.EscapeControls(&b, quoted)
		return b.String()
	default:
		return fmt.Sprint(v)
	}
}

// yamlWord reports whether YAML 1.1 or 1.2 readers take the word for something else than a string.
func yamlWord(s string) bool {
	switch strings.ToLower(s) {
	case "y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf":
		return true
	}
	return false
}
