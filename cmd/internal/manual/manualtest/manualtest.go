// Package manualtest checks the help of a program and the manual pages that are
// made of it.
package manualtest

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/zonebroker/zonebroker/cmd/internal/manual"
)

// Help fails for a command that does not say what it is for, in a line, at
// length and by an example of its own.
func Help(t *testing.T, root *cobra.Command) {
	t.Helper()
	if root.Hidden {
		return
	}
	path := root.CommandPath()
	switch {
	case root.Short == "" || strings.HasSuffix(root.Short, "."):
		t.Errorf("%s: Short is %q: want a line without a full stop", path, root.Short)
	case root.Long == "":
		t.Errorf("%s has no Long", path)
	case !strings.Contains(root.Example, root.Root().Name()):
		t.Errorf("%s has no Example", path)
	}
	for line := range strings.Lines(root.Example) {
		if !strings.HasPrefix(line, "  ") {
			t.Errorf("%s: the example %q is not indented as the others are", path, line)
		}
	}
	for line := range strings.Lines(root.Long) {
		if n := len([]rune(strings.TrimRight(line, "\n"))); n > 100 {
			t.Errorf("%s: a line of Long has %d characters, which a terminal wraps", path, n)
		}
	}
	for _, sub := range root.Commands() {
		Help(t, sub)
	}
}

// Pages checks the pages of a program: that each is well formed, holds what the
// help says, and that a formatter which is here reads it without a warning.
func Pages(t *testing.T, root *cobra.Command, about manual.About) {
	t.Helper()
	pages := manual.Pages(root, about)
	files := map[string]bool{}
	for _, p := range pages {
		files[strings.TrimSuffix(p.File, ".1")+"(1)"] = true
	}
	files["zonebroker(1)"], files["zoneagent(1)"] = true, true
	for _, p := range pages {
		wellFormed(t, p)
		for _, name := range reference.FindAllString(strings.ReplaceAll(p.Text, `\-`, "-"), -1) {
			if !files[name] {
				t.Errorf("%s refers to %s, which does not exist", p.File, name)
			}
		}
		format(t, p)
	}
}

var (
	reference = regexp.MustCompile(`[a-z-]+\(1\)`)
	request   = regexp.MustCompile(`^\.(\\"|TH|SH|PP|TP|B|RS|RE|nf|fi|nh|ad)( |$)`)
	sections  = []string{"NAME", "SYNOPSIS", "DESCRIPTION", "EXAMPLES", "EXIT STATUS", "SEE ALSO"}
)

// wellFormed judges a page without a formatter: requests are those that we know,
// pairs are closed, nothing but ASCII, and the sections stand in their order.
func wellFormed(t *testing.T, p manual.Page) {
	t.Helper()
	open, next := map[string]int{}, 0
	for line := range strings.Lines(p.Text) {
		line = strings.TrimRight(line, "\n")
		for _, c := range line {
			if c > '~' || c < ' ' && c != '\t' {
				t.Errorf("%s: character %U", p.File, c)
			}
		}
		switch {
		case strings.HasPrefix(line, "'"):
			t.Errorf("%s: a line that a formatter takes for a request: %q", p.File, line)
		case strings.HasPrefix(line, ".") && !request.MatchString(line):
			t.Errorf("%s: unknown request %q", p.File, line)
		}
		for begin, end := range map[string]string{".nf": ".fi", ".RS": ".RE"} {
			if line == begin || strings.HasPrefix(line, begin+" ") {
				open[begin]++
			}
			if line == end {
				open[begin]--
			}
		}
		if next < len(sections) && line == `.SH "`+sections[next]+`"` {
			next++
		}
	}
	if next < len(sections) {
		t.Errorf("%s: section %s is missing, or in the wrong place", p.File, sections[next])
	}
	for begin, n := range open {
		if n != 0 {
			t.Errorf("%s: %d of %s stay open", p.File, n, begin)
		}
	}
}

// format runs the formatters of this machine. None is needed: users of the
// program have man, developers need not.
func format(t *testing.T, p manual.Page) {
	t.Helper()
	file := filepath.Join(t.TempDir(), p.File)
	if err := os.WriteFile(file, []byte(p.Text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, formatter := range [][]string{
		{"groff", "-man", "-Tutf8", "-ww", "-rLL=500n"},
		{"mandoc", "-Tlint", "-Wwarning"},
	} {
		path, err := exec.LookPath(formatter[0])
		if err != nil {
			continue
		}
		var out, said bytes.Buffer
		cmd := exec.Command(path, append(formatter[1:], file)...)
		cmd.Stdout, cmd.Stderr = &out, &said
		if err := cmd.Run(); err != nil || said.Len() > 0 {
			t.Errorf("%s %s: %v\n%s%s", formatter[0], p.File, err, out.String(), said.String())
		}
	}
}

var readsEnvironment = regexp.MustCompile(`Getenv\("(\w+)"\)`)

// Environment fails for a variable that the program in the working folder reads
// and its page does not name, but for what only test binaries read.
func Environment(t *testing.T, page string) {
	t.Helper()
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".go") || strings.HasPrefix(e.Name(), "failpoint") || strings.HasSuffix(e.Name(), "_test.go") {
			continue
		}
		source, err := os.ReadFile(e.Name())
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range readsEnvironment.FindAllStringSubmatch(string(source), -1) {
			if !strings.Contains(page, m[1]) {
				t.Errorf("%s reads %s, which the page does not name", e.Name(), m[1])
			}
		}
	}
}
