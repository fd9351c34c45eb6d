package main

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"strings"
	"time"

	"github.com/zonebroker/zonebroker/cmd/internal/terminal"
)

// stream prints the items of a list as they come, so that a list longer than
// memory can be read to its end: lines of JSON, or CSV.
type stream[T any] struct {
	lines *json.Encoder // of ndjson, else nil
	csv   *csv.Writer   // of csv, else nil
	began bool
}

func newStream[T any](w io.Writer, f format) *stream[T] {
	if f == asNDJSON {
		e := json.NewEncoder(w)
		e.SetEscapeHTML(false)
		return &stream[T]{lines: e}
	}
	c := csv.NewWriter(w)
	c.UseCRLF = true // RFC 4180, section 2
	return &stream[T]{csv: c}
}

func (s *stream[T]) print(items []T) error {
	for _, item := range items {
		if s.lines != nil {
			if err := s.lines.Encode(item); err != nil {
				return err
			}
			continue
		}
		if err := s.header(); err != nil {
			return err
		}
		if err := s.csv.Write(csvCells(reflect.ValueOf(item))); err != nil {
			return err
		}
	}
	if s.csv != nil {
		s.csv.Flush()
		return s.csv.Error()
	}
	return nil
}

// end finishes an empty list, too: its CSV has a header.
func (s *stream[T]) end() error {
	if s.csv == nil {
		return nil
	}
	if err := s.header(); err != nil {
		return err
	}
	s.csv.Flush()
	return s.csv.Error()
}

func (s *stream[T]) header() error {
	if s.began {
		return nil
	}
	s.began = true
	return s.csv.Write(csvHeader(reflect.TypeFor[T]()))
}

// csvHeader names the columns as the JSON names its members. A member that
// stands only in the answer for one item has no column.
func csvHeader(t reflect.Type) []string {
	var out []string
	for i := range t.NumField() {
		if name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ","); hasColumn(t.Field(i).Type) {
			out = append(out, name)
		}
	}
	return out
}

func hasColumn(t reflect.Type) bool {
	return t.Kind() != reflect.Pointer && t != reflect.TypeFor[json.RawMessage]()
}

// csvCells writes times as RFC 3339, never as an empty cell, and lists as JSON.
func csvCells(v reflect.Value) []string {
	var out []string
	for i := range v.NumField() {
		if hasColumn(v.Type().Field(i).Type) {
			out = append(out, csvCell(v.Field(i)))
		}
	}
	return out
}

func csvCell(v reflect.Value) string {
	switch x := v.Interface().(type) {
	case string:
		return harmless(x)
	case time.Time:
		if x.IsZero() {
			return ""
		}
		return x.UTC().Format(time.RFC3339Nano)
	}
	switch v.Kind() {
	case reflect.Slice, reflect.Map, reflect.Struct:
		var b strings.Builder
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		if v.Kind() == reflect.Slice && v.Len() == 0 {
			return "[]"
		}
		if e.Encode(v.Interface()) != nil {
			return "" // cannot happen: it came as JSON
		}
		return terminal.Plain(strings.TrimSpace(b.String()))
	}
	return fmt.Sprint(v.Interface())
}

// harmless keeps a spreadsheet from running a cell as a formula: text that begins
// as one gets an apostrophe before it, which spreadsheets read as "this is text".
// Labels, details and values of measurements come from hosts; who imports a list
// of them does not mean to run them. Characters that control a terminal go.
func harmless(text string) string {
	text = terminal.Plain(text)
	begins := strings.TrimLeft(text, " ")
	for _, sign := range []string{"=", "+", "-", "@", "＝", "＋", "－", "＠"} {
		if strings.HasPrefix(begins, sign) {
			return "'" + text
		}
	}
	return text
}
