package tool

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Encode writes a result as JSON in the form that every surface shares: camelCase keys in the order of the struct, times
// as RFC 3339 in UTC with milliseconds, an unknown time as null, durations as seconds under a key that ends in Seconds,
// and lists and maps that are empty rather than null.
func Encode(v any) (json.RawMessage, error) {
	var b bytes.Buffer
	if err := encodeValue(&b, reflect.ValueOf(v)); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

const timeLayout = "2006-01-02T15:04:05.000Z"

var (
	timeType     = reflect.TypeFor[time.Time]()
	durationType = reflect.TypeFor[time.Duration]()
	marshaler    = reflect.TypeFor[json.Marshaler]()
)

func encodeValue(b *bytes.Buffer, v reflect.Value) error {
	if !v.IsValid() {
		b.WriteString("null")
		return nil
	}
	switch {
	case v.Type() == timeType:
		return encodeTime(b, v.Interface().(time.Time))
	case v.Type() == durationType:
		return encodeAny(b, time.Duration(v.Int()).Round(time.Millisecond).Seconds())
	case v.Kind() != reflect.Pointer && v.Kind() != reflect.Interface && v.Type().Implements(marshaler):
		return encodeAny(b, v.Interface())
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		return encodeValue(b, v.Elem())
	case reflect.Struct:
		b.WriteByte('{')
		first := true
		if err := encodeFields(b, v, &first); err != nil {
			return err
		}
		b.WriteByte('}')
		return nil
	case reflect.Map:
		return encodeMap(b, v)
	case reflect.Slice, reflect.Array:
		return encodeList(b, v)
	case reflect.Float64, reflect.Float32:
		if f := v.Float(); math.IsNaN(f) || math.IsInf(f, 0) {
			b.WriteString("null") // a gap in a series, which JSON has no number for
			return nil
		}
	}
	return encodeAny(b, v.Interface())
}

func encodeTime(b *bytes.Buffer, t time.Time) error {
	if t.IsZero() {
		b.WriteString("null")
		return nil
	}
	b.WriteString(strconv.Quote(t.UTC().Format(timeLayout)))
	return nil
}

func encodeFields(b *bytes.Buffer, v reflect.Value, first *bool) error {
	t := v.Type()
	for i := range t.NumField() {
		sf := t.Field(i)
		name, opts, _ := strings.Cut(sf.Tag.Get("json"), ",")
		if name == "-" || (!sf.IsExported() && !sf.Anonymous) {
			continue
		}
		fv := v.Field(i)
		if sf.Anonymous && name == "" && sf.Type.Kind() == reflect.Struct {
			if err := encodeFields(b, fv, first); err != nil {
				return err
			}
			continue
		}
		if leftOut(fv, opts) {
			continue
		}
		if name == "" {
			name = sf.Name
		}
		if err := encodeKey(b, durationKey(name, sf.Type), first); err != nil {
			return err
		}
		if err := encodeValue(b, fv); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func encodeKey(b *bytes.Buffer, name string, first *bool) error {
	if !*first {
		b.WriteByte(',')
	}
	*first = false
	if err := encodeAny(b, name); err != nil {
		return err
	}
	b.WriteByte(':')
	return nil
}

// durationKey says the unit in the name: a number alone could be nanoseconds.
func durationKey(name string, t reflect.Type) string {
	if t == durationType && !strings.HasSuffix(name, "Seconds") {
		return name + "Seconds"
	}
	return name
}

func leftOut(v reflect.Value, opts string) bool {
	if strings.Contains(opts, "omitzero") && v.IsZero() {
		return true
	}
	if !strings.Contains(opts, "omitempty") {
		return false
	}
	switch v.Kind() {
	case reflect.Slice, reflect.Map:
		return v.Len() == 0
	case reflect.Struct:
		return false
	}
	return v.IsZero()
}

func encodeMap(b *bytes.Buffer, v reflect.Value) error {
	keys := v.MapKeys()
	slices.SortFunc(keys, func(x, y reflect.Value) int { return strings.Compare(x.String(), y.String()) })
	b.WriteByte('{')
	first := true
	for _, k := range keys {
		if err := encodeKey(b, k.String(), &first); err != nil {
			return err
		}
		if err := encodeValue(b, v.MapIndex(k)); err != nil {
			return fmt.Errorf("%s: %w", k, err)
		}
	}
	b.WriteByte('}')
	return nil
}

func encodeList(b *bytes.Buffer, v reflect.Value) error {
	b.WriteByte('[')
	for i := range v.Len() {
		if i > 0 {
			b.WriteByte(',')
		}
		if err := encodeValue(b, v.Index(i)); err != nil {
			return err
		}
	}
	b.WriteByte(']')
	return nil
}

// encodeAny writes what encoding/json writes, with <, > and & as they are and every control character, DEL and C1
// included, escaped: JSON is often printed to a terminal.
func encodeAny(b *bytes.Buffer, v any) error {
	var one bytes.Buffer
	enc := json.NewEncoder(&one)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err
	}
	EscapeControls(b, bytes.TrimSuffix(one.Bytes(), []byte("\n")))
	return nil
}
