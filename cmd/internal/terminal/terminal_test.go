package terminal_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/cmd/internal/terminal"
)

func TestPlain(t *testing.T) {
	for name, tt := range map[string]struct{ in, want string }{
		"text stays":            {"Grüße, 世界 §7", "Grüße, 世界 §7"},
		"lines and tabs":        {"a\nb\tc", "a b c"},
		"C0 and delete":         {"a\x00\x1b[2J\r\x7fb", "a[2Jb"},
		"C1":                    {"a\u0080\u009b1m\u009fb", "a1mb"},
		"Unicode's line breaks": {"a\u2028b\u2029c", "abc"},
		"other reading order":   {"a\u202eb\u2066c\u200fd\u061ce", "abcde"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := terminal.Plain(tt.in); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
	if got := terminal.PlainLines("a\x1b\nb\r"); got != "a\nb" {
		t.Errorf("lines: %q", got)
	}
}

func TestReport(t *testing.T) {
	var out bytes.Buffer
	exit := terminal.Report{
		Code: "node.disabled", What: "refused", Why: "since\nTuesday", Fix: "ask", Request: "r\r1", More: []string{"x: y\nerror: forged"}, Exit: 3,
	}.Print(&out)
	want := "error: node.disabled: refused\n  why: since Tuesday\n  fix: ask\n  request id: r1\n  also: x: y error: forged\n"
	if diff := cmp.Diff(want, out.String()); diff != "" || exit != 3 {
		t.Errorf("exit %d\n%s", exit, diff)
	}
	out.Reset()
	terminal.Report{What: "first\nsecond"}.Print(&out)
	if diff := cmp.Diff("error: first\nsecond\n", out.String()); diff != "" {
		t.Error(diff)
	}
}

func TestRefusal(t *testing.T) {
	for status, want := range map[int]int{
		401: terminal.ExitDenied, 403: terminal.ExitDenied, 400: terminal.ExitError, 404: terminal.ExitError,
		409: terminal.ExitError, 429: terminal.ExitError, 500: terminal.ExitError, 503: terminal.ExitError,
	} {
		if got := terminal.Refusal("x", api.Problem{Status: status}, 0).Exit; got != want {
			t.Errorf("status %d exits %d, want %d", status, got, want)
		}
	}
	r := terminal.Refusal("busy", api.Problem{
		Code: "a.b", Detail: "d", Remedy: "Wait.", Reasons: []api.Reason{{Code: "a.b", Detail: "d"}, {Code: "a.b", Detail: "e"}, {Code: "c.d"}},
	}, 2*time.Second)
	if diff := cmp.Diff([]string{"a.b: e", "c.d"}, r.More); diff != "" || r.Fix != "Wait. Try again in 2s." {
		t.Errorf("fix %q\n%s", r.Fix, diff)
	}
}

func TestRows(t *testing.T) {
	var out bytes.Buffer
	if err := terminal.Rows(&out, [][2]string{{"name", "a\nb"}, {"empty", ""}, {"longer name", "c"}}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("name         a b\nlonger name  c\n", out.String()); diff != "" {
		t.Error(diff)
	}
	out.Reset()
	if err := terminal.JSON(&out, map[string]string{"a": "<b>"}); err != nil || !strings.Contains(out.String(), `"a": "<b>"`) {
		t.Errorf("%v %s", err, out.String())
	}
}
