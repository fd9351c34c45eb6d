package eventlog

import (
	"encoding/binary"
	"slices"
	"strings"
	"unicode/utf16"
)

// maxCommandLine bounds the bytes of a command line that is shown: the largest
// COMMAND_LINE_SIZE of common kernels.
const maxCommandLine = 4096

// reachesKernel is COMMAND_LINE_SIZE of x86 with the closing zero (Linux,
// arch/x86/include/asm/setup.h). What stands behind was measured, and never
// reached the kernel.
const (
	reachesKernel = 2048
	tooLong       = "the command line is longer than what reaches every kernel: 2047 bytes"
)

// CommandLine is what a log says the kernel was started with.
type CommandLine struct {
	text   string
	digest []byte
	pcr    int
	event  int
	known  bool
	proved bool
	why    string
}

// Known reports whether the log tells the text. Where it has a digest alone (a
// UKI with its command line built in), Digest returns that and Text is "".
func (c CommandLine) Known() bool { return c.known }

// Proved reports whether the text is what was measured, and the only command
// line that was: PCR 8, 11 and 12 are quoted, and those that do not hold it hold
// nothing that could be another one. See Boot for what that means in PCR 8 to 15.
func (c CommandLine) Proved() bool { return c.proved }

// Why says what a command line that is not proved lacks; "" for one that is.
func (c CommandLine) Why() string { return c.why }

// Text returns the command line as measured, without the path of the kernel,
// printable ASCII. Never to be shown as proved unless Proved says so.
func (c CommandLine) Text() string { return c.text }

// Digest returns the digest that was extended, nil where there is none.
func (c CommandLine) Digest() []byte { return slices.Clone(c.digest) }

// PCR and Event say where it stands: the PCR, and the number of the event.
func (c CommandLine) PCR() int { return c.pcr }

// Event returns the number of the event in the firmware's log.
func (c CommandLine) Event() int { return c.event }

// Tokens returns the kernel's parameters: split at blanks outside double quotes,
// quotes taken off as next_arg of the kernel's lib/cmdline.c does, up to "--",
// behind which the rest is for init.
func (c CommandLine) Tokens() []string {
	var out []string
	for rest := c.text; ; {
		var token string
		if token, rest = nextToken(rest); token == "" {
			return out
		}
		if token == "--" {
			return out
		}
		out = append(out, token)
	}
}

// nextToken returns the first parameter, "" at the end.
func nextToken(s string) (token, rest string) {
	s = strings.TrimLeft(s, " \t\n\v\f\r")
	quoted := false
	end := len(s)
	for i := range len(s) {
		if s[i] == '"' {
			quoted = !quoted
		}
		if !quoted && strings.IndexByte(" \t\n\v\f\r", s[i]) >= 0 {
			end = i
			break
		}
	}
	return unquote(s[:end]), s[end:]
}

// unquote: "a b" is a b, and a="b c" is a=b c.
func unquote(s string) string {
	if q, ok := strings.CutPrefix(s, `"`); ok {
		return strings.TrimSuffix(q, `"`)
	}
	if name, value, ok := strings.Cut(s, `="`); ok {
		return name + "=" + strings.TrimSuffix(value, `"`)
	}
	return s
}

// besides takes the proof of a command line back where another PCR may hold a
// second one. Types and data are whatever the sender calls them, so that an event
// there is a possible command line, whatever the log says it is.
func (r *bootReader) besides(c *CommandLine) {
	why := ""
	switch {
	case !c.proved:
		return
	case !r.known[8] || !r.known[11] || !r.known[12]:
		why = "PCR 8, 11 and 12 are not all quoted: any of them may hold another one"
	case c.pcr != 8 && r.grub.events > 0:
		why = "PCR 8 holds events: one of them may be the command line"
	case c.pcr != 12 && r.loader.events > 0:
		why = "PCR 12 holds events: one of them may be the command line"
	case r.uki.events > 0:
		why = "PCR 11 holds events: a unified kernel image may have a command line of its own"
	default:
		return
	}
	c.proved, c.why = false, why
}

// commandLine chooses among what GRUB, a loader and a UKI measured. Two that
// differ are a boot of which nobody can tell which one was used.
func (r *bootReader) commandLine() {
	var found []CommandLine
	for _, c := range [...]CommandLine{r.grub.line, r.loader.command, r.uki.command} {
		if c.digest != nil {
			found = append(found, c)
		}
	}
	if len(found) == 0 {
		return
	}
	if len(found) > 1 {
		for i := range found {
			found[i].proved, found[i].why = false, "more than one loader measured a command line"
		}
	}
	r.boot.command = found[0]
	for _, c := range found {
		r.add(Fact{
			Kind: KindCommandLine, Text: c.text, Digest: c.digest, PCR: c.pcr, Event: c.event,
			Proved: c.proved, TextProved: c.proved, Why: c.why,
		})
	}
}

// utf16Line reads UTF-16LE without its closing zeros; clean is false where the
// text cannot be shown as it is.
func utf16Line(data []byte) (text string, clean bool) {
	if n := len(data); n%2 != 0 { // a real log of Arch closes so
		if data[n-1] != 0 {
			return "", false
		}
		data = data[:n-1]
	}
	for len(data) >= 2 && data[len(data)-1] == 0 && data[len(data)-2] == 0 {
		data = data[:len(data)-2]
	}
	if len(data) > 2*maxCommandLine {
		return "", false
	}
	units := make([]uint16, 0, len(data)/2)
	for ; len(data) >= 2; data = data[2:] {
		units = append(units, binary.LittleEndian.Uint16(data))
	}
	return cleanLine(string(utf16.Decode(units)))
}

// cleanLine is printable for a command line, which may be longer than what a
// description shows.
func cleanLine(s string) (text string, clean bool) {
	if len(s) > maxCommandLine {
		return "", false
	}
	clean = true
	text = strings.Map(func(c rune) rune {
		if c < 0x20 || c > 0x7e {
			clean = false
			return '?'
		}
		return c
	}, s)
	return text, clean
}
