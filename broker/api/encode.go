package api

import (
	"encoding/json"
	"reflect"
	"time"
)

// Encode writes v, a type of this package, as the contract wants it: a list or
// map that is nil is [] or {}, never null, so that nobody has to test for three
// kinds of nothing; a time is in UTC. v is not changed.
func Encode(v any) ([]byte, error) {
	if out, ok := direct(v); ok {
		return out, nil
	}
	return encode(v)
}

// encode is Encode by the library.
func encode(v any) ([]byte, error) { return json.Marshal(filled(reflect.ValueOf(v)).Interface()) }

// filled returns a copy of v without nil lists and maps. What may be left out is
// left out all the same: omitempty means empty, not nil.
func filled(v reflect.Value) reflect.Value {
	t := v.Type()
	if t == timeType {
		return reflect.ValueOf(v.Interface().(time.Time).UTC())
	}
	if t.Implements(marshalerType) || t == rawType {
		return v
	}
	out := reflect.New(t).Elem()
	out.Set(v)
	switch t.Kind() {
	case reflect.Struct:
		for i := range t.NumField() {
			out.Field(i).Set(filled(v.Field(i)))
		}
	case reflect.Slice:
		out.Set(reflect.MakeSlice(t, v.Len(), v.Len()))
		for i := range v.Len() {
			out.Index(i).Set(filled(v.Index(i)))
		}
	case reflect.Map:
		out.Set(reflect.MakeMapWithSize(t, v.Len()))
		for k, e := range v.Seq2() {
			out.SetMapIndex(k, filled(e))
		}
	case reflect.Pointer:
		if !v.IsNil() {
			out.Set(reflect.New(t.Elem()))
			out.Elem().Set(filled(v.Elem()))
		}
	}
	return out
}

var (
	marshalerType = reflect.TypeFor[json.Marshaler]()
	timeType      = reflect.TypeFor[time.Time]()
)
