package store

import (
	"strconv"
	"strings"
	"time"

	"github.com/zonebroker/zonebroker/broker/ledger"
)

// statement is a text with its arguments apart from it. Nothing of a question
// ends up in the text.
type statement struct {
	text strings.Builder
	args []any
}

// add appends text in which each question mark stands for one of args.
func (s *statement) add(text string, args ...any) {
	for _, arg := range args {
		before, after, found := strings.Cut(text, "?")
		if !found {
			panic("store: more arguments than the text has places")
		}
		s.args = append(s.args, arg)
		s.text.WriteString(before + "$" + strconv.Itoa(len(s.args)))
		text = after
	}
	s.text.WriteString(text)
}

// where adds a condition where it is used.
func (s *statement) where(used bool, condition string, args ...any) {
	if used {
		s.add(" AND "+condition, args...)
	}
}

// pageOf is a limit within its bounds.
func pageOf(limit int) int {
	if limit <= 0 || limit > maxPage {
		return maxPage
	}
	return limit
}

// filter is the conditions of a list, each used or not.
type filter struct{ statement }

// add appends a condition where it is used.
func (f *filter) add(used bool, condition string, args ...any) {
	if !used {
		return
	}
	word := " AND "
	if f.text.Len() == 0 {
		word = "WHERE "
	}
	f.statement.add(word+condition, args...)
}

// between bounds the time of the commit.
func (f *filter) between(since, until time.Time) {
	f.add(!since.IsZero(), "recorded_at >= ?", since)
	f.add(!until.IsZero(), "recorded_at < ?", until)
}

// orderWithin is the order of rows of which a record has several.
const orderWithin = "recorded_at DESC, log_idx DESC, log_id DESC, ord"

// afterWithin goes on in orderWithin. The first half alone is where an index can
// start.
const afterWithin = "(recorded_at, log_idx, log_id) <= (?, ?, ?) AND ((recorded_at, log_idx, log_id) < (?, ?, ?) OR ord > ?)"

// after goes on in orderWithin.
func (f *filter) after(p ledger.Place) {
	f.add(!p.IsZero(), afterWithin, p.RecordedAt, p.Index, p.LogID, p.RecordedAt, p.Index, p.LogID, p.Ord)
}

// query is the text and its arguments, for a page of at most maxPage rows.
func (f *filter) query(selected, order string, limit int) (string, []any) {
	f.statement.add(" ORDER BY "+order+" LIMIT ?", pageOf(limit))
	return selected + f.text.String(), f.args
}
