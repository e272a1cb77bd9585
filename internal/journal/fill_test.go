package journal

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"time"

	"pgregory.net/rapid"
)

// source gives the values that fill puts into a payload.
type source interface {
	text() string
	number() int64
	fraction() float64
	yes() bool
	moment() time.Time
	some() int // 0 = nil, else a length
}

var (
	timeType = reflect.TypeFor[time.Time]()
	rawType  = reflect.TypeFor[json.RawMessage]()
)

// fill sets every field of v, however deep. Empty slices and maps stay nil, as they are after decoding.
func fill(v reflect.Value, from source) {
	switch v.Type() {
	case timeType:
		v.Set(reflect.ValueOf(from.moment()))
		return
	case rawType:
		b, err := json.Marshal(map[string]string{"k": from.text()})
		if err != nil {
			panic(err)
		}
		v.Set(reflect.ValueOf(json.RawMessage(b)))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(from.text())
	case reflect.Bool:
		v.SetBool(from.yes())
	case reflect.Int, reflect.Int64:
		v.SetInt(from.number())
	case reflect.Uint64:
		v.SetUint(uint64(from.number()) & math.MaxInt64)
	case reflect.Float64:
		v.SetFloat(from.fraction())
	case reflect.Struct:
		for _, field := range v.Fields() {
			fill(field, from)
		}
	case reflect.Pointer:
		if from.some() > 0 {
			v.Set(reflect.New(v.Type().Elem()))
			fill(v.Elem(), from)
		}
	case reflect.Slice:
		if n := from.some(); n > 0 {
			v.Set(reflect.MakeSlice(v.Type(), n, n))
			for i := range n {
				fill(v.Index(i), from)
			}
		}
	case reflect.Map:
		for range from.some() {
			if v.IsNil() {
				v.Set(reflect.MakeMap(v.Type()))
			}
			key, val := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			fill(key, from)
			fill(val, from)
			v.SetMapIndex(key, val)
		}
	default:
		panic(fmt.Sprintf("a payload has a field of type %s: teach fill about it", v.Type()))
	}
}

// counter fills with different values in a fixed order, for golden files.
type counter struct{ n int64 }

func (c *counter) number() int64     { c.n++; return c.n }
func (c *counter) text() string      { return fmt.Sprintf("text-%d", c.number()) }
func (c *counter) fraction() float64 { return float64(c.number()) + 0.5 }
func (c *counter) yes() bool         { return true }
func (c *counter) some() int         { return 1 }
func (c *counter) moment() time.Time {
	return time.Date(2026, 1, 2, 3, 4, 5, int(c.number()), time.UTC)
}

// random fills with what rapid draws.
type random struct{ t *rapid.T }

func (r random) number() int64     { return rapid.Int64().Draw(r.t, "number") }
func (r random) text() string      { return rapid.String().Draw(r.t, "text") }
func (r random) fraction() float64 { return rapid.Float64Range(-1e300, 1e300).Draw(r.t, "fraction") }
func (r random) yes() bool         { return rapid.Bool().Draw(r.t, "yes") }
func (r random) some() int         { return rapid.IntRange(0, 3).Draw(r.t, "some") }
func (r random) moment() time.Time {
	return time.Unix(rapid.Int64Range(-1<<33, 1<<33).Draw(r.t, "second"), rapid.Int64Range(0, 999_999_999).Draw(r.t, "nano")).UTC()
}

func sortedTypes() []Type { return slices.Sorted(maps.Keys(decoders)) }

// payloadOf returns a payload of type t filled from a source.
func payloadOf(t Type, from source) Payload {
	zero, err := DecodePayload(t, []byte("{}"))
	if err != nil {
		panic(err)
	}
	v := reflect.New(reflect.TypeOf(zero)).Elem()
	fill(v, from)
	return v.Interface().(Payload)
}
