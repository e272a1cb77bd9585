package tool

import "reflect"

// firstGiven returns the name of the first parameter of v that is set, or "".
func firstGiven(v any) string {
	rv := reflect.ValueOf(v)
	for _, f := range fieldsOf(rv.Type()) {
		if !rv.FieldByIndex(f.index).IsZero() {
			return f.name
		}
	}
	return ""
}
