package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/zonebroker/zonebroker/cmd/internal/terminal"
)

// format is how data is printed.
type format string

const (
	asTable  format = "table"
	asJSON   format = "json"
	asNDJSON format = "ndjson" // of lists: a JSON document a line, as the pages come
	asCSV    format = "csv"    // of lists: RFC 4180, with a header
)

// String, Set and Type implement pflag.Value: a wrong value is a usage error.
func (f *format) String() string { return string(*f) }

func (f *format) Set(v string) error {
	switch format(v) {
	case asTable, asJSON:
		*f = format(v)
		return nil
	}
	return fmt.Errorf("want table or json")
}

func (f *format) Type() string { return "table|json" }

func outputFlag(cmd *cobra.Command) *format {
	f := asTable
	cmd.Flags().VarP(&f, "output", "o", "how to print")
	return &f
}

// listFormat is the format of a command that prints a list.
type listFormat format

// String, Set and Type implement pflag.Value.
func (f *listFormat) String() string { return string(*f) }

func (f *listFormat) Set(v string) error {
	switch format(v) {
	case asTable, asJSON, asNDJSON, asCSV:
		*f = listFormat(v)
		return nil
	}
	return fmt.Errorf("want table, json, ndjson or csv")
}

func (f *listFormat) Type() string { return "table|json|ndjson|csv" }

func listOutputFlag(cmd *cobra.Command) *format {
	f := asTable
	cmd.Flags().VarP((*listFormat)(&f), "output", "o", "how to print")
	return &f
}

// printList prints items as a JSON array, as lines of JSON, as CSV or as a table
// with a line each.
func printList[T any](w io.Writer, f format, items []T, header string, row func(T) []string) error {
	switch f {
	case asJSON:
		if items == nil {
			items = []T{}
		}
		return terminal.JSON(w, items)
	case asNDJSON, asCSV:
		s := newStream[T](w, f)
		return errors.Join(s.print(items), s.end())
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, strings.ReplaceAll(header, " ", "\t"))
	for _, item := range items {
		cells := row(item)
		for i, c := range cells {
			if cells[i] = terminal.Plain(c); cells[i] == "" {
				cells[i] = "-"
			}
		}
		fmt.Fprintln(t, strings.Join(cells, "\t"))
	}
	return t.Flush()
}

// relative is for people: "3m ago", "in 40s", "" for the zero time.
func relative(t, now time.Time) string {
	switch d := now.Sub(t); {
	case t.IsZero():
		return ""
	case d < 0:
		return "in " + span(-d)
	default:
		return span(d) + " ago"
	}
}

// ago is relative to now, for rows that are printed as they come.
func ago(t time.Time) string { return relative(t, time.Now()) }

// span rounds: seconds up to two minutes, minutes up to two hours, hours up to
// two days, then days.
func span(d time.Duration) string {
	in := func(unit time.Duration) int { return int((d + unit/2) / unit) }
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", in(time.Second))
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", in(time.Minute))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", in(time.Hour))
	}
	return fmt.Sprintf("%dd", in(24*time.Hour))
}

// both shows a time for people and for copying.
func both(t, now time.Time) string {
	if t.IsZero() {
		return ""
	}
	return fmt.Sprintf("%s (%s)", t.UTC().Format(time.RFC3339), relative(t, now))
}
