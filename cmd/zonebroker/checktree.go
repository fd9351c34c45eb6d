package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/zonebroker/zonebroker/cmd/internal/terminal"
	"github.com/zonebroker/zonebroker/verifier/eventlog"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// marks are the signs of a tree of checks.
type marks struct{ passed, noted, unchecked, refused, more string }

var (
	signs = marks{"✔", "!", "–", "✗", "…"}
	words = marks{"ok  ", "note", "--  ", "FAIL", "..."}
)

// marksFor picks the signs that the locale can show.
func marksFor(ascii bool) marks {
	if ascii {
		return words
	}
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} { // POSIX: the first that is set decides
		if v := os.Getenv(name); v != "" {
			v = strings.ToLower(v)
			if strings.Contains(v, "utf-8") || strings.Contains(v, "utf8") {
				return signs
			}
			return words
		}
	}
	return words
}

func (m marks) of(o reason.Outcome) string {
	switch o {
	case reason.Passed:
		return m.passed
	case reason.Noted:
		return m.noted
	case reason.Unchecked:
		return m.unchecked
	}
	return m.refused
}

// printTree writes findings below the parts of their names, in their order.
func printTree(w io.Writer, m marks, findings []reason.Finding) {
	var open []string
	for _, f := range findings {
		parts := strings.Split(f.Check, ".")
		branch, leaf := parts[:len(parts)-1], parts[len(parts)-1]
		shared := 0
		for shared < len(branch) && shared < len(open) && branch[shared] == open[shared] {
			shared++
		}
		for i := shared; i < len(branch); i++ {
			fmt.Fprintf(w, "%s%s\n", strings.Repeat("  ", i), terminal.Plain(branch[i]))
		}
		open = branch
		indent := strings.Repeat("  ", len(branch))
		line := m.of(f.Outcome) + " " + leaf
		if f.Code != "" {
			line += " [" + string(f.Code) + "]"
		}
		fmt.Fprintf(w, "%s%s%s\n", indent, terminal.Plain(line), terminal.Plain(tail(": ", f.Detail)))
		if where := m.bytesOf(f); where != "" {
			fmt.Fprintf(w, "%s    %s\n", indent, terminal.Plain(where))
		}
	}
}

// shownBytes is how many bytes of a finding a line shows.
const shownBytes = 32

// bytesOf names the bytes that decided.
func (m marks) bytesOf(f reason.Finding) string {
	where := f.Part
	if f.Event > 0 {
		where += fmt.Sprintf(" event %d", f.Event)
	}
	if len(f.Bytes) == 0 {
		return where
	}
	text := fmt.Sprintf("%x", f.Bytes[:min(len(f.Bytes), shownBytes)])
	if len(f.Bytes) > shownBytes {
		text += m.more
	}
	return fmt.Sprintf("%s bytes %d to %d: %s", where, f.Offset, f.Offset+len(f.Bytes)-1, text)
}

// printFacts writes what a log says about the boot; what it only claims is
// marked as unchecked, with the reason.
func printFacts(w io.Writer, m marks, facts []eventlog.Fact) {
	for _, f := range facts {
		mark, how := m.passed, ""
		if !f.Proved || f.Text != "" && !f.TextProved {
			mark, how = m.unchecked, " (claimed"+tail(": ", f.Why)+")"
		} else if f.Why != "" {
			how = " (" + f.Why + ")"
		}
		line := mark + " " + string(f.Kind) + tail(" ", f.Name) + tail(": ", f.Text)
		if f.Text == "" && len(f.Digest) > 0 {
			line += fmt.Sprintf(": %x", f.Digest)
		}
		place := fmt.Sprintf(", PCR %d", f.PCR)
		if f.Event > 0 {
			place += fmt.Sprintf(" event %d", f.Event)
		}
		fmt.Fprintln(w, "  "+terminal.Plain(line+place+how))
	}
}
