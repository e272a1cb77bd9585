package tool

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// field is one parameter of an input struct.
type field struct {
	name     string
	index    []int
	required bool
	rules    fieldRules
}

// fieldRules is what the check tag of a field says: `check:"enum=a|b,min=0,max=100,default=30"`. The same rules go into
// the schema and are applied when parameters are read.
type fieldRules struct {
	enum     []string
	min, max *float64
	def      string
	nonEmpty bool
}

func parseRules(tag string) fieldRules {
	var r fieldRules
	if tag == "" {
		return r
	}
	for term := range strings.SplitSeq(tag, ",") {
		key, val, _ := strings.Cut(term, "=")
		switch key {
		case "enum":
			r.enum = strings.Split(val, "|")
		case "min":
			r.min = mustFloat(tag, val)
		case "max":
			r.max = mustFloat(tag, val)
		case "default":
			r.def = val
		case "nonempty":
			r.nonEmpty = true
		default:
			panic("check tag " + strconv.Quote(tag) + ": unknown rule " + key)
		}
	}
	return r
}

func mustFloat(tag, val string) *float64 {
	f, err := strconv.ParseFloat(val, 64)
	if err != nil {
		panic("check tag " + strconv.Quote(tag) + ": " + err.Error())
	}
	return &f
}

// fieldCache holds the fields of each input struct by reflect.Type: they are read on every call.
var fieldCache sync.Map

// fieldsOf lists the parameters of an input struct, embedded structs included, in their written order.
func fieldsOf(t reflect.Type) []field {
	if c, ok := fieldCache.Load(t); ok {
		return c.([]field)
	}
	var out []field
	for _, sf := range reflect.VisibleFields(t) {
		name, opts, _ := strings.Cut(sf.Tag.Get("json"), ",")
		if !sf.IsExported() || name == "" || name == "-" {
			continue
		}
		out = append(out, field{
			name: name, index: sf.Index, rules: parseRules(sf.Tag.Get("check")),
			required: !strings.Contains(opts, "omitempty") && !strings.Contains(opts, "omitzero"),
		})
	}
	fieldCache.Store(t, out)
	return out
}

func (f field) check(v reflect.Value, path string) error {
	for v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return nil
		}
		v = v.Elem()
	}
	switch {
	case v.Kind() == reflect.String:
		return f.checkString(v.String(), path)
	case v.CanInt():
		return f.checkNumber(float64(v.Int()), path)
	case v.CanFloat():
		return f.checkNumber(v.Float(), path)
	}
	return nil
}

func (f field) checkString(s, path string) error {
	if f.rules.enum != nil && !slices.Contains(f.rules.enum, s) {
		return badParam(path, "Wrong value for parameter %s: %q is not one of %s", path, short(s), strings.Join(f.rules.enum, ", "))
	}
	if (f.rules.nonEmpty || f.required) && strings.TrimSpace(s) == "" {
		return badParam(path, "Wrong value for parameter %s: it is empty", path)
	}
	return nil
}

func (f field) checkNumber(n float64, path string) error {
	if f.rules.min != nil && n < *f.rules.min {
		return badParam(path, "Wrong value for parameter %s: %v is less than %v", path, n, *f.rules.min)
	}
	if f.rules.max != nil && n > *f.rules.max {
		return badParam(path, "Wrong value for parameter %s: %v is more than %v", path, n, *f.rules.max)
	}
	return nil
}

func (f field) setDefault(v reflect.Value) error {
	if f.rules.def == "" {
		return nil
	}
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	switch {
	case v.Kind() == reflect.String:
		v.SetString(f.rules.def)
	case v.CanInt():
		n, err := strconv.ParseInt(f.rules.def, 10, 64)
		if err != nil {
			return fmt.Errorf("default of %s: %w", f.name, err)
		}
		v.SetInt(n)
	default:
		return fmt.Errorf("default of %s: not supported for %s", f.name, v.Type())
	}
	return nil
}
