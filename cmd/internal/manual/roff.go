package manual

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// roff collects the lines of a page.
type roff struct{ strings.Builder }

func (r *roff) macro(name string, args ...string) {
	r.WriteString("." + name)
	for _, a := range args {
		r.WriteString(` "` + strings.ReplaceAll(escape(a), `"`, `\(dq`) + `"`)
	}
	r.WriteString("\n")
}

// text writes lines that a formatter may fill. No line of it can be read as a
// request: those that begin with a dot or an apostrophe are masked.
func (r *roff) text(lines string) {
	for line := range strings.Lines(lines) {
		line = escape(strings.TrimRight(line, "\n"))
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			line = `\&` + line
		}
		r.WriteString(line + "\n")
	}
}

// escape masks what roff reads as its own. Hyphens become minus signs: options
// have to survive being copied from the page.
func escape(s string) string {
	var b strings.Builder
	for _, c := range s {
		switch {
		case c == '\\':
			b.WriteString(`\e`)
		case c == '-':
			b.WriteString(`\-`)
		case c == '`':
			b.WriteString(`\(ga`)
		case c == '^':
			b.WriteString(`\(ha`)
		case c == '~':
			b.WriteString(`\(ti`)
		case c > 0x7e:
			fmt.Fprintf(&b, `\[u%04X]`, c)
		case c == '\t' || c >= ' ':
			b.WriteRune(c)
		}
	}
	return b.String()
}

// prose writes paragraphs; those that are indented are kept line by line.
func (r *roff) prose(text string) {
	for i, paragraph := range strings.Split(strings.Trim(text, "\n"), "\n\n") {
		if i > 0 {
			r.macro("PP")
		}
		if strings.HasPrefix(paragraph, " ") || strings.HasPrefix(paragraph, "\t") {
			r.verbatim(paragraph)
			continue
		}
		r.text(paragraph)
	}
}

func (r *roff) verbatim(text string) {
	r.macro("RS", "4")
	r.macro("nf")
	for line := range strings.Lines(text) {
		r.text(strings.TrimPrefix(strings.TrimPrefix(line, "  "), "\t"))
	}
	r.macro("fi")
	r.macro("RE")
}

// terms writes a list of names with what they mean.
func (r *roff) terms(title string, list [][2]string) {
	if len(list) == 0 {
		return
	}
	r.macro("SH", title)
	for _, t := range list {
		r.macro("TP")
		r.macro("B", t[0])
		r.text(t[1])
	}
}

func page(cmd *cobra.Command, about About) Page {
	var r roff
	name := nameOf(cmd)
	r.WriteString(".\\\" Made from the help of the program; do not edit.\n")
	r.macro("TH", strings.ToUpper(name), "1", "", cmd.Root().Name()+" "+about.Version(), "Zonebroker")
	r.WriteString(".nh\n.ad l\n") // a hyphen that the formatter adds would end in somebody's shell
	r.macro("SH", "NAME")
	r.text(name + " - " + strings.TrimSuffix(cmd.Short, "."))
	r.macro("SH", "SYNOPSIS")
	r.synopsis(cmd)
	r.macro("SH", "DESCRIPTION")
	r.prose(cmd.Long)
	r.options("OPTIONS", cmd.NonInheritedFlags())
	r.options("OPTIONS OF ALL COMMANDS", cmd.InheritedFlags())
	var commands [][2]string
	for _, sub := range visible(cmd) {
		commands = append(commands, [2]string{nameOf(sub) + "(1)", sub.Short})
	}
	r.terms("COMMANDS", commands)
	if cmd.Example != "" {
		r.macro("SH", "EXAMPLES")
		r.verbatim(cmd.Example)
	}
	r.terms("EXIT STATUS", about.Exit)
	if !cmd.HasParent() {
		r.terms("ENVIRONMENT", about.Environment)
		r.terms("FILES", about.Files)
	}
	r.seeAlso(cmd)
	return Page{File: name + ".1", Text: r.String()}
}

func (r *roff) synopsis(cmd *cobra.Command) {
	use := strings.TrimPrefix(cmd.Use, cmd.Name())
	if len(visible(cmd)) > 0 {
		use += " COMMAND"
	}
	r.macro("B", cmd.CommandPath())
	r.text(strings.TrimSpace(use + " [OPTIONS]"))
}

func (r *roff) options(title string, flags *pflag.FlagSet) {
	var list [][2]string
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		kind, usage := pflag.UnquoteUsage(f)
		name := "--" + f.Name
		if f.Shorthand != "" {
			name = "-" + f.Shorthand + ", " + name
		}
		if kind != "" {
			name += " " + kind
		}
		if d := defaultOf(f); d != "" {
			usage += " (default " + d + ")"
		}
		list = append(list, [2]string{name, usage})
	})
	r.terms(title, list)
}

// defaultOf leaves out the values that mean nothing is set, and those that come
// from the environment of whoever makes the pages.
func defaultOf(f *pflag.Flag) string {
	switch f.DefValue {
	case "", "false", "0", "0s", "[]":
		return ""
	}
	if strings.Contains(f.Usage, "environment") || strings.Contains(f.Usage, "default") || strings.HasPrefix(f.DefValue, "/") {
		return ""
	}
	return f.DefValue
}

func (r *roff) seeAlso(cmd *cobra.Command) {
	var names []string
	if cmd.HasParent() {
		names = append(names, nameOf(cmd.Parent())+"(1)")
		for _, sibling := range visible(cmd.Parent()) {
			if sibling != cmd && cmd.Parent().HasParent() {
				names = append(names, nameOf(sibling)+"(1)")
			}
		}
	}
	for _, program := range []string{"zonebroker", "zoneagent"} {
		if program != cmd.Root().Name() {
			names = append(names, program+"(1)")
		}
	}
	r.macro("SH", "SEE ALSO")
	r.text(strings.Join(names, ", "))
}
