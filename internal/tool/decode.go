package tool

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"autoheal.dev/autoheal"
)

// maxDepth bounds how deep parameters may nest; none needs more than four.
const maxDepth = 16

// ParamError is a wrong parameter. Its text names the parameter and never repeats a value that could be a secret.
type ParamError struct {
	Param string
	Err   *autoheal.Error
}

// Error returns the text of the cause, which names the parameter.
func (e *ParamError) Error() string { return e.Err.Error() }

// Unwrap returns the cause, so that autoheal.KindOf sees it.
func (e *ParamError) Unwrap() error { return e.Err }

func badParam(param, format string, args ...any) *ParamError {
	return &ParamError{param, &autoheal.Error{Kind: autoheal.ErrInvalid, Detail: fmt.Sprintf(format, args...)}}
}

// decode reads raw into the struct that dst points to. Keys are matched exactly; unknown and repeated keys, nulls, wrong
// types, missing required keys and values outside a check tag are refused with the parameter's name.
func decode(raw json.RawMessage, dst any) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	v, err := readValue(d, "", 0)
	if err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return badParam("", "Bad parameters: more than one JSON value")
	}
	obj, ok := v.(*object)
	if !ok {
		return badParam("", "Bad parameters: expected a JSON object, got %s", kindName(v))
	}
	return setStruct(reflect.ValueOf(dst).Elem(), obj, "")
}

// object is a JSON object in its written order.
type object struct {
	keys []string
	vals map[string]any
}

func readValue(d *json.Decoder, path string, depth int) (any, error) {
	if depth > maxDepth {
		return nil, badParam(path, "Bad parameters: nested deeper than %d", maxDepth)
	}
	tok, err := d.Token()
	if err != nil {
		return nil, badJSON(err)
	}
	switch tok {
	case json.Delim('{'):
		return readObject(d, path, depth)
	case json.Delim('['):
		list := []any{}
		for d.More() {
			v, err := readValue(d, path, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		if _, err := d.Token(); err != nil {
			return nil, badJSON(err)
		}
		return list, nil
	}
	return tok, nil
}

func readObject(d *json.Decoder, path string, depth int) (any, error) {
	obj := &object{vals: map[string]any{}}
	for d.More() {
		tok, err := d.Token()
		if err != nil {
			return nil, badJSON(err)
		}
		key, _ := tok.(string)
		at := join(path, key)
		if _, dup := obj.vals[key]; dup {
			return nil, badParam(at, "Repeated parameter: %s", short(at))
		}
		v, err := readValue(d, at, depth+1)
		if err != nil {
			return nil, err
		}
		obj.keys = append(obj.keys, key)
		obj.vals[key] = v
	}
	if _, err := d.Token(); err != nil {
		return nil, badJSON(err)
	}
	return obj, nil
}

// badJSON says where the JSON ends being JSON, without quoting it: a value may be a secret.
func badJSON(err error) error {
	if p, ok := errors.AsType[*ParamError](err); ok {
		return p
	}
	if s, ok := errors.AsType[*json.SyntaxError](err); ok {
		return badParam("", "Bad parameters: not JSON at byte %d", s.Offset)
	}
	return badParam("", "Bad parameters: the JSON ends too early")
}

func setStruct(dst reflect.Value, obj *object, path string) error {
	fields := fieldsOf(dst.Type())
	for _, key := range obj.keys {
		i := slices.IndexFunc(fields, func(f field) bool { return f.name == key })
		if i < 0 {
			return unknownParam(join(path, key), fields)
		}
		f := fields[i]
		if err := setValue(dst.FieldByIndex(f.index), obj.vals[key], join(path, key)); err != nil {
			return err
		}
		if err := f.check(dst.FieldByIndex(f.index), join(path, key)); err != nil {
			return err
		}
	}
	for _, f := range fields {
		if _, given := obj.vals[f.name]; given {
			continue
		}
		if f.required {
			return badParam(join(path, f.name), "Missing parameter: %s", join(path, f.name))
		}
		if err := f.setDefault(dst.FieldByIndex(f.index)); err != nil {
			return err
		}
	}
	return nil
}

func unknownParam(at string, fields []field) error {
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.name
	}
	expected := "none"
	if len(names) > 0 {
		expected = strings.Join(names, ", ")
	}
	return badParam(at, "Unknown parameter: %s (expected: %s)", short(at), expected)
}

func setValue(dst reflect.Value, v any, path string) error {
	switch dst.Kind() {
	case reflect.Pointer:
		p := reflect.New(dst.Type().Elem())
		if err := setValue(p.Elem(), v, path); err != nil {
			return err
		}
		dst.Set(p)
		return nil
	case reflect.Struct:
		obj, ok := v.(*object)
		if !ok {
			return wrongType(path, "object", v)
		}
		return setStruct(dst, obj, path)
	case reflect.Map:
		return setMap(dst, v, path)
	case reflect.Slice:
		return setSlice(dst, v, path)
	case reflect.String:
		s, ok := v.(string)
		if !ok {
			return wrongType(path, "string", v)
		}
		dst.SetString(s)
		return nil
	case reflect.Bool:
		b, ok := v.(bool)
		if !ok {
			return wrongType(path, "boolean", v)
		}
		dst.SetBool(b)
		return nil
	default:
		return setNumber(dst, v, path)
	}
}

func setMap(dst reflect.Value, v any, path string) error {
	obj, ok := v.(*object)
	if !ok {
		return wrongType(path, "object", v)
	}
	m := reflect.MakeMapWithSize(dst.Type(), len(obj.keys))
	for _, key := range obj.keys {
		e := reflect.New(dst.Type().Elem()).Elem()
		if err := setValue(e, obj.vals[key], join(path, key)); err != nil {
			return err
		}
		m.SetMapIndex(reflect.ValueOf(key).Convert(dst.Type().Key()), e)
	}
	dst.Set(m)
	return nil
}

func setSlice(dst reflect.Value, v any, path string) error {
	list, ok := v.([]any)
	if !ok {
		return wrongType(path, "array", v)
	}
	s := reflect.MakeSlice(dst.Type(), len(list), len(list))
	for i, e := range list {
		if err := setValue(s.Index(i), e, path+"["+strconv.Itoa(i)+"]"); err != nil {
			return err
		}
	}
	dst.Set(s)
	return nil
}

func setNumber(dst reflect.Value, v any, path string) error {
	want := "number"
	if dst.CanInt() {
		want = "integer"
	}
	n, ok := v.(json.Number)
	if !ok {
		return wrongType(path, want, v)
	}
	if !dst.CanInt() {
		f, err := n.Float64()
		if err != nil || math.IsInf(f, 0) {
			return badParam(path, "Wrong value for parameter %s: the number is too large", short(path))
		}
		dst.SetFloat(f)
		return nil
	}
	i, err := wholeNumber(n)
	if err != nil || dst.OverflowInt(i) {
		return badParam(path, "Wrong type for parameter %s: expected integer, got %s", short(path), short(n.String()))
	}
	dst.SetInt(i)
	return nil
}

// wholeNumber accepts 2, 2.0 and 2e3, as JSON schema's integer does: agents write all of them.
func wholeNumber(n json.Number) (int64, error) {
	if i, err := n.Int64(); err == nil {
		return i, nil
	}
	f, err := n.Float64()
	if err != nil {
		return 0, err
	}
	if f != math.Trunc(f) || math.Abs(f) > 1<<53 {
		return 0, errors.New("not a whole number")
	}
	return int64(f), nil
}

func wrongType(path, want string, v any) error {
	return badParam(path, "Wrong type for parameter %s: expected %s, got %s", short(path), want, kindName(v))
}

func kindName(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case string:
		return "string"
	case bool:
		return "boolean"
	case json.Number:
		return "number"
	case []any:
		return "array"
	}
	return "object"
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// short makes a caller's text fit to be repeated in an error: printable and of bounded length.
func short(s string) string {
	const limit = 120
	r := []rune(Printable(s))
	if len(r) > limit {
		return string(r[:limit]) + "…"
	}
	return string(r)
}
