package main

import (
	"fmt"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"
)

// maxPage is the largest page that the broker gives.
const maxPage = 500

// listFlags are the flags of every list that is read page by page. Filters are
// applied by the broker, and all have to hold.
type listFlags struct {
	filters map[string]*string // by query parameter
	limit   *int
	cursor  *string
}

func newListFlags(cmd *cobra.Command, what string) *listFlags {
	f := cmd.Flags()
	return &listFlags{
		filters: map[string]*string{
			"since": f.String("since", "", "from this time on: 24h, or RFC 3339"),
			"until": f.String("until", "", "before this time: 24h, or RFC 3339"),
		},
		limit:  f.Int("limit", 50, "at most so many "+what),
		cursor: f.String("cursor", "", "go on where a shorter list said that it ended"),
	}
}

func (l *listFlags) add(cmd *cobra.Command, name, usage string) {
	l.filters[name] = cmd.Flags().String(name, "", usage)
}

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
		if name == "since" || name == "until" {
			t, err := parseTime(value, now)
			if err != nil {
				return nil, usageError{"--" + name + ": " + err.Error()}
			}
			value = t.UTC().Format(time.RFC3339Nano)
		}
		query.Set(name, value)
	}
	if *l.cursor != "" {
		query.Set("cursor", *l.cursor)
	}
	return query, nil
}

// follow reads pages until there are as many items as were asked for, and tells
// people how to go on.
func follow[T any](cmd *cobra.Command, l *listFlags, fetch func(query url.Values) (items []T, next string, err error)) ([]T, error) {
	query, err := l.query(time.Now())
	if err != nil {
		return nil, err
	}
	var all []T
	for {
		query.Set("limit", strconv.Itoa(min(*l.limit-len(all), maxPage)))
		items, next, err := fetch(query)
		if err != nil {
			return nil, err
		}
		all = append(all, items...)
		switch {
		case next == "" || len(items) == 0:
			return all, nil
		case len(all) >= *l.limit:
			fmt.Fprintf(cmd.ErrOrStderr(), "there are more; raise --limit, narrow the filters, or go on with --cursor %s\n", next)
			return all, nil
		}
		query.Set("cursor", next)
	}
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
