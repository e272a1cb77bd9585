package tool

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"

	"autoheal.dev/autoheal"
	"github.com/google/jsonschema-go/jsonschema"
)

// inputSchema derives the schema of an input struct and adds the rules of its check tags.
func inputSchema(t reflect.Type) (*jsonschema.Schema, error) {
	s, err := jsonschema.ForType(t, &jsonschema.ForOptions{})
	if err != nil {
		return nil, fmt.Errorf("derive schema: %w", err)
	}
	plainTypes(s)
	addRules(s, t)
	return s, nil
}

// plainTypes removes "null" from every type: a parameter is given or left out.
func plainTypes(s *jsonschema.Schema) {
	if s == nil {
		return
	}
	if len(s.Types) == 2 && s.Types[0] == "null" {
		s.Type, s.Types = s.Types[1], nil
	}
	for _, p := range s.Properties {
		plainTypes(p)
	}
	plainTypes(s.Items)
	plainTypes(s.AdditionalProperties)
}

func addRules(s *jsonschema.Schema, t reflect.Type) {
	for _, f := range fieldsOf(t) {
		p := s.Properties[f.name]
		ft := t.FieldByIndex(f.index).Type
		for ft.Kind() == reflect.Pointer {
			ft = ft.Elem()
		}
		for _, e := range f.rules.enum {
			p.Enum = append(p.Enum, e)
		}
		p.Minimum, p.Maximum = f.rules.min, f.rules.max
		if ft.Kind() == reflect.String && (f.rules.nonEmpty || f.required) && f.rules.enum == nil {
			one := 1
			p.MinLength = &one
		}
		if f.rules.def != "" {
			p.Default = json.RawMessage(f.rules.def)
			if ft.Kind() == reflect.String {
				p.Default = json.RawMessage(strconv.Quote(f.rules.def))
			}
		}
		if ft.Kind() == reflect.Struct {
			addRules(p, ft)
		}
	}
}

// durationMark is the title that marks the schema of a duration until its key is renamed.
const durationMark = "duration"

// outputSchema derives the schema of a result as Encode writes it. Results may grow keys, so none is forbidden.
func outputSchema(t reflect.Type) (*jsonschema.Schema, error) {
	s, err := jsonschema.ForType(t, &jsonschema.ForOptions{TypeSchemas: map[reflect.Type]*jsonschema.Schema{
		timeType:                            {Types: []string{"null", "string"}, Format: "date-time"},
		durationType:                        {Type: "number", Title: durationMark},
		reflect.TypeFor[autoheal.Seconds](): {Type: "number"},
	}})
	if err != nil {
		return nil, fmt.Errorf("derive schema: %w", err)
	}
	asEncoded(s)
	return s, nil
}

// asEncoded turns the schema of a Go type into that of what Encode writes for it.
func asEncoded(s *jsonschema.Schema) {
	if s == nil {
		return
	}
	if s.AdditionalProperties != nil && s.AdditionalProperties.Not != nil {
		s.AdditionalProperties = nil
	}
	if len(s.Types) == 2 && s.Types[0] == "null" && (s.Types[1] == "array" || s.AdditionalProperties != nil) {
		s.Type, s.Types = s.Types[1], nil
	}
	for i, name := range s.PropertyOrder {
		p := s.Properties[name]
		asEncoded(p)
		if p.Title != durationMark {
			continue
		}
		p.Title = ""
		renamed := durationKey(name, durationType)
		delete(s.Properties, name)
		s.Properties[renamed] = p
		s.PropertyOrder[i] = renamed
		if j := slices.Index(s.Required, name); j >= 0 {
			s.Required[j] = renamed
		}
	}
	asEncoded(s.Items)
	asEncoded(s.AdditionalProperties)
}
