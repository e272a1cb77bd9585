package policy

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"
)

// Schema returns the JSON schema of a configuration file, for editors. It knows keys, types, defaults and words; what
// depends on several settings only Load checks.
func Schema() *jsonschema.Schema {
	root := sectionSchema()
	root.Schema = "https://json-schema.org/draft/2020-12/schema"
	root.Title = "autoheal configuration"
	defaults := Default()
	for i := range fields {
		f := &fields[i]
		path := strings.Split(f.key, ".")
		at := root
		for _, name := range path[:len(path)-1] {
			if at.Properties[name] == nil {
				put(at, name, sectionSchema())
			}
			at = at.Properties[name]
		}
		s := f.schema()
		s.Description = f.doc
		s.Default = f.defaultJSON(defaults)
		put(at, path[len(path)-1], s)
	}
	return root
}

// sectionSchema allows null: a section whose keys are all commented out.
func sectionSchema() *jsonschema.Schema {
	return &jsonschema.Schema{Types: []string{"object", "null"}, AdditionalProperties: falseSchema(), Properties: map[string]*jsonschema.Schema{}}
}

func put(s *jsonschema.Schema, name string, child *jsonschema.Schema) {
	s.Properties[name] = child
	s.PropertyOrder = append(s.PropertyOrder, name)
}

// defaultJSON returns the default as JSON. It cannot fail for a default that the field's own reader accepts, which a
// test holds for all of them.
func (f *field) defaultJSON(p *Policy) json.RawMessage {
	v, err := toAny([]byte(f.text(p)))
	if err != nil {
		panic(fmt.Sprintf("default of %s: %v", f.key, err))
	}
	data, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("default of %s: %v", f.key, err))
	}
	return data
}

// toAny reads YAML as the values of encoding/json.
func toAny(data []byte) (any, error) {
	r := &reader{}
	n := parseTree(data, func(line, col int, detail, remedy string) { r.report(line, col, "", detail, remedy) })
	if n == nil && len(r.problems) == 0 {
		return nil, nil
	}
	if len(r.problems) > 0 {
		return nil, r.problems
	}
	v, ok := readAny(r, "", n)
	if !ok {
		return nil, r.problems
	}
	return v, nil
}
