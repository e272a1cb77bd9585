package heal

import (
	"reflect"
	"time"
)

// copier copies journalled state and its like: what is journalled is in exported fields, and times are values. A copy shares
// no map, list or pointed-to value with what it was made of, but in fields that are not exported: those are derived, and
// whoever makes the copy derives them anew.
type copier struct {
	deep map[reflect.Type][]int // of a struct: the fields for which assignment is not enough
}

func (c copier) copy(v reflect.Value) reflect.Value {
	out := reflect.New(v.Type()).Elem()
	c.into(out, v)
	return out
}

func (c copier) into(to, from reflect.Value) {
	switch from.Kind() {
	case reflect.Pointer:
		if !from.IsNil() {
			p := reflect.New(from.Type().Elem())
			c.into(p.Elem(), from.Elem())
			to.Set(p)
		}
	case reflect.Map:
		if !from.IsNil() {
			to.Set(c.copyMap(from))
		}
	case reflect.Slice:
		if !from.IsNil() {
			to.Set(c.copySlice(from))
		}
	case reflect.Struct:
		to.Set(from)
		for _, i := range c.fields(from.Type()) {
			to.Field(i).SetZero()
			c.into(to.Field(i), from.Field(i))
		}
	default:
		to.Set(from)
	}
}

func (c copier) copyMap(from reflect.Value) reflect.Value {
	m := reflect.MakeMapWithSize(from.Type(), from.Len())
	flat := c.flat(from.Type().Elem())
	for it := from.MapRange(); it.Next(); {
		v := it.Value()
		if !flat {
			v = c.copy(v)
		}
		m.SetMapIndex(it.Key(), v)
	}
	return m
}

func (c copier) copySlice(from reflect.Value) reflect.Value {
	s := reflect.MakeSlice(from.Type(), from.Len(), from.Len())
	if c.flat(from.Type().Elem()) {
		reflect.Copy(s, from)
		return s
	}
	for i := range from.Len() {
		c.into(s.Index(i), from.Index(i))
	}
	return s
}

// flat reports whether values of a type are copied by assignment.
func (c copier) flat(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Pointer, reflect.Map, reflect.Slice, reflect.Interface:
		return false
	case reflect.Struct:
		return len(c.fields(t)) == 0
	}
	return true
}

func (c copier) fields(t reflect.Type) []int {
	if out, ok := c.deep[t]; ok || t == reflect.TypeFor[time.Time]() {
		return out
	}
	var out []int
	for i := range t.NumField() {
		if f := t.Field(i); f.IsExported() && !c.flat(f.Type) {
			out = append(out, i)
		}
	}
	c.deep[t] = out
	return out
}
