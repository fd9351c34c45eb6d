package api

import (
	"net/url"
	"reflect"
	"strconv"
	"time"
)

// Values returns a query of this package as the parameters of its route: its
// fields by their tag "query". Zero values do not filter and are left out; times
// are RFC 3339 in UTC. Command, client and the record of a reading name filters
// by this one list.
func Values(query any) url.Values {
	out := url.Values{}
	v := reflect.ValueOf(query)
	for i := range v.NumField() {
		name := v.Type().Field(i).Tag.Get("query")
		if name == "" || v.Field(i).IsZero() {
			continue
		}
		switch f := v.Field(i).Interface().(type) {
		case time.Time:
			out.Set(name, f.UTC().Format(time.RFC3339Nano))
		case bool:
			out.Set(name, "true")
		case int:
			out.Set(name, strconv.Itoa(f))
		case int64:
			out.Set(name, strconv.FormatInt(f, 10))
		case string:
			out.Set(name, f)
		}
	}
	return out
}
