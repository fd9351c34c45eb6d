// Package terminal is how both commands speak to people and scripts: exit
// codes, the form of an error, and text from elsewhere made harmless. What an
// error means each command says for itself.
package terminal

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/zonebroker/zonebroker/broker/api"
)

// Exit codes. Scripts branch on them, so they never change their meaning.
const (
	ExitOK          = 0
	ExitError       = 1
	ExitUsage       = 2
	ExitDenied      = 3 // a verdict about who asks or who is asked about
	ExitUnreachable = 4
	ExitUnproved    = 5 // a proof does not verify
)

// Report is an error as a person reads it. All texts may come from elsewhere.
type Report struct {
	Code    string // "" leaves it out
	What    string // our own; it may have lines
	Why     string
	Fix     string
	Request string   // id under which the broker logged it
	More    []string // further reasons
	Exit    int
}

// Print writes the report and returns its exit code.
func (r Report) Print(w io.Writer) int {
	what := PlainLines(r.What)
	if r.Code != "" {
		what = Plain(r.Code) + ": " + what
	}
	fmt.Fprintf(w, "error: %s\n", what)
	for _, line := range []struct{ name, text string }{{"why", r.Why}, {"fix", r.Fix}, {"request id", r.Request}} {
		if line.text != "" {
			fmt.Fprintf(w, "  %s: %s\n", line.name, Plain(line.text))
		}
	}
	for _, m := range r.More {
		fmt.Fprintf(w, "  also: %s\n", Plain(m))
	}
	return r.Exit
}

// Refusal reports a refusal of the broker. Only a verdict is denied: a broker
// that could not judge, was asked wrongly or is busy has denied nothing.
// retryAfter of 0 says nothing of when to ask again.
func Refusal(what string, p api.Problem, retryAfter time.Duration) Report {
	r := Report{Code: p.Code, What: what, Why: p.Detail, Fix: p.Remedy, Request: p.RequestID, Exit: ExitError}
	if retryAfter > 0 {
		r.Fix = strings.TrimSpace(fmt.Sprintf("%s Try again in %s.", r.Fix, retryAfter))
	}
	if p.Status == http.StatusUnauthorized || p.Status == http.StatusForbidden {
		r.Exit = ExitDenied
	}
	for _, also := range p.Reasons {
		if also.Code != p.Code || also.Detail != p.Detail {
			r.More = append(r.More, strings.TrimSuffix(also.Code+": "+also.Detail, ": "))
		}
	}
	return r
}

// JSON prints v for scripts.
func JSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// Rows writes "name  value" lines, without those that have no value. Values may
// come from elsewhere.
func Rows(w io.Writer, rows [][2]string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		if v := Plain(row[1]); v != "" {
			fmt.Fprintf(t, "%s\t%s\n", row[0], v)
		}
	}
	return t.Flush()
}

// Plain keeps text from elsewhere from moving the cursor, forging lines, or
// reading in another order than it is written.
func Plain(text string) string {
	return strings.Map(func(c rune) rune {
		switch {
		case c == '\n', c == '\t':
			return ' '
		case c < ' ', c >= 0x7f && c <= 0x9f, c == 0x2028, c == 0x2029,
			c == 0x200e, c == 0x200f, c == 0x061c, c >= 0x202a && c <= 0x202e, c >= 0x2066 && c <= 0x2069:
			return -1
		}
		return c
	}, text)
}

// PlainLines is Plain for texts of our own that have lines.
func PlainLines(text string) string {
	lines := strings.Split(text, "\n")
	for i := range lines {
		lines[i] = Plain(lines[i])
	}
	return strings.Join(lines, "\n")
}
