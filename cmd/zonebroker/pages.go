package main

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/cmd/internal/terminal"
)

// maxPage is the largest page that the broker gives.
const maxPage = 500

// listFlags are the flags of every list that is read page by page. Filters are
// applied by the broker, under the same names, and all have to hold.
type listFlags struct {
	filters map[string]*string // by query parameter
	times   []string           // those of them that are times
	marks   map[string]*bool   // filters without a value
	limit   *int
	cursor  *string
	all     *bool
}

// newListFlags adds the flags of a list of what lies between two times.
func newListFlags(cmd *cobra.Command, what string) *listFlags {
	l := newPageFlags(cmd, what)
	l.addTime(cmd, "since", "from this time on: 24h, or RFC 3339")
	l.addTime(cmd, "until", "before this time: 24h, or RFC 3339")
	return l
}

// everything are the flags of a list that is always read to its end.
func everything() *listFlags {
	limit, all := maxPage, true
	return &listFlags{limit: &limit, cursor: new(string), all: &all}
}

// newPageFlags adds the flags of a list.
func newPageFlags(cmd *cobra.Command, what string) *listFlags {
	l := newFilterFlags(cmd, what)
	l.cursor = cmd.Flags().String("cursor", "", "go on where a shorter list said that it ended")
	l.all = cmd.Flags().Bool("all", false, "to the end, whatever --limit; with -o ndjson and csv as the pages come")
	cmd.MarkFlagsMutuallyExclusive("all", "limit")
	return l
}

// newFilterFlags adds the flags of a list of one page.
func newFilterFlags(cmd *cobra.Command, what string) *listFlags {
	return &listFlags{
		filters: map[string]*string{}, marks: map[string]*bool{},
		limit: cmd.Flags().Int("limit", 50, "at most so many "+what), cursor: new(string), all: new(bool),
	}
}

func (l *listFlags) add(cmd *cobra.Command, name, usage string) {
	l.filters[parameter(name)] = cmd.Flags().String(name, "", usage)
}

func (l *listFlags) addTime(cmd *cobra.Command, name, usage string) {
	l.add(cmd, name, usage)
	l.times = append(l.times, name)
}

func (l *listFlags) addMark(cmd *cobra.Command, name, usage string) {
	l.marks[parameter(name)] = cmd.Flags().Bool(name, false, usage)
}

// parameter is the name of a flag in a query.
func parameter(flag string) string { return strings.ReplaceAll(flag, "-", "_") }

// query is what the broker is asked for; now is what durations go back from.
func (l *listFlags) query(now time.Time) (url.Values, error) {
	if *l.limit < 1 {
		return nil, usageError{"--limit: at least 1"}
	}
	query := url.Values{}
	for name, v := range l.filters {
		if *v == "" {
			continue
		}
		value := *v
		if slices.Contains(l.times, name) {
			t, err := parseTime(value, now)
			if err != nil {
				return nil, usageError{"--" + name + ": " + err.Error()}
			}
			value = t.UTC().Format(time.RFC3339Nano)
		}
		query.Set(name, value)
	}
	for name, v := range l.marks {
		if *v {
			query.Set(name, "true")
		}
	}
	if *l.cursor != "" {
		query.Set("cursor", *l.cursor)
	}
	return query, nil
}

// page is a page of an answer.
type page[T any] struct {
	items []T
	next  string // cursor, "" at the end
	asOf  api.AsOf
	since time.Time // bound that the broker took; zero where the question has none
	// whole makes the JSON document of all items; nil prints an array of them.
	whole func(all []T) any
}

// pager reads pages until there are as many items as were asked for.
type pager[T any] struct {
	cmd   *cobra.Command
	list  *listFlags
	fetch func(query url.Values) (page[T], error)
}

// each hands over every page in turn, and returns the last one without items.
func (p pager[T]) each(take func(items []T) error) (page[T], error) {
	query, err := p.list.query(time.Now())
	if err != nil {
		return page[T]{}, err
	}
	for seen := 0; ; {
		ask := maxPage
		if !*p.list.all {
			ask = min(*p.list.limit-seen, maxPage)
		}
		query.Set("limit", strconv.Itoa(ask))
		got, err := p.fetch(query)
		if err != nil {
			return got, err
		}
		if err := take(got.items); err != nil {
			return got, err
		}
		seen += len(got.items)
		full := !*p.list.all && seen >= *p.list.limit
		if got.next == "" || len(got.items) == 0 || full {
			p.note(got, query)
			return got, nil
		}
		query.Set("cursor", got.next)
	}
}

// note says beside the data what it covers: where it goes on, from when, and how
// fresh it is.
func (p pager[T]) note(last page[T], query url.Values) {
	w := p.cmd.ErrOrStderr()
	if last.next != "" {
		fmt.Fprintf(w, "there are more; use --all, raise --limit, narrow the filters, or go on with --cursor %s\n", last.next)
	}
	if !last.since.IsZero() && query.Get("since") == "" {
		fmt.Fprintf(w, "it begins at %s; --since goes further back\n", last.since.UTC().Format(time.RFC3339))
	}
	noteFresh(p.cmd, last.asOf)
}

// noteFresh says how fresh an answer is.
func noteFresh(cmd *cobra.Command, a api.AsOf) {
	if a.Log == "" {
		return
	}
	text := fmt.Sprintf("as of %d entries of log %s", a.Size, terminal.Plain(a.Log))
	if !a.RecordedAt.IsZero() {
		text += ", the last of " + a.RecordedAt.UTC().Format(time.RFC3339)
	}
	if a.Replica {
		text += ", from a replica, which may be behind"
	}
	fmt.Fprintln(cmd.ErrOrStderr(), text)
}

// collect reads all pages into memory.
func (p pager[T]) collect() ([]T, page[T], error) {
	var all []T
	last, err := p.each(func(items []T) error {
		all = append(all, items...)
		return nil
	})
	return all, last, err
}

// print prints the list: page by page where the format allows it.
func (p pager[T]) print(f format, header string, row func(T) []string) error {
	out := p.cmd.OutOrStdout()
	if f == asNDJSON || f == asCSV {
		s := newStream[T](out, f)
		if _, err := p.each(s.print); err != nil {
			return err
		}
		return s.end()
	}
	all, last, err := p.collect()
	if err != nil {
		return err
	}
	if f == asJSON && last.whole != nil {
		if all == nil {
			all = []T{}
		}
		return terminal.JSON(out, last.whole(all))
	}
	return printList(out, f, all, header, row)
}

// parseTime takes RFC 3339, or a duration that goes back from now.
func parseTime(text string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(text); err == nil {
		return now.Add(-d), nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, fmt.Errorf("want a duration such as 24h, or RFC 3339 such as 2026-11-01T00:00:00Z")
	}
	return t, nil
}

// short keeps a table readable: of a digest the first twelve digits tell two
// values apart, and -o json has them whole.
func short(value string) string {
	if len(value) == 64 {
		return value[:12] + "…"
	}
	return value
}
