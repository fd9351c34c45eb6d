package advisory

import (
	"strings"
	"testing"
)

// TestParseNamesTheVersionThatDoesNotRead: whoever edits the table learns which
// field is wrong, and not that a range is empty whose end nobody could read.
func TestParseNamesTheVersionThatDoesNotRead(t *testing.T) {
	for _, c := range []struct{ from, before, want string }{
		{"one", "2.0", `line 2: firmware version "one"`},
		{"1.0", "two", `line 2: firmware version "two"`},
		{"2.0", "1.0", "line 2: the range 2.0 to 1.0 is empty"},
		{"2.0", "2.0", "line 2: the range 2.0 to 2.0 is empty"},
	} {
		row := "CVE-1\tABC\tdiscrete\t" + c.from + "\t" + c.before + "\tcap 2\thttps://example.org\tbad\n"
		if _, err := parse(tableHead + "\n" + row); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s to %s: %v", c.from, c.before, err)
		}
	}
}
