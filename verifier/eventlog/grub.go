package eventlog

import (
	"bytes"
	"strings"
)

// grub reads PCR 8 and 9 as GRUB measures them (grub-core/commands/tpm.c): each
// command it runs and the kernel's command line into PCR 8, the digest being that
// of the text without the prefix that tells which it was; each file it reads into
// PCR 9, the data being its path.
//
// The prefix is no evidence: root can extend PCR 8 with a command line of choice
// and call GRUB's own one a command. What cannot be changed is the sequence of
// texts. So a command line is proved only if every event of PCR 8 is a text that
// hashes, exactly one of them starts a kernel under whatever prefix, and exactly
// one is what that command hands over.
type grub struct {
	events  int
	broken  string // why PCR 8 is not a sequence of texts
	starts  []grubText
	lines   []grubText
	initrd  grubText
	initrds int
	line    CommandLine
}

type grubText struct {
	text   []byte
	digest []byte
	index  int
}

var grubPrefixes = [...]string{"grub_cmd: ", "kernel_cmdline: ", "module_cmdline: "}

const kernelLine = 1 // of grubPrefixes

// observe reads an event of PCR 8.
func (g *grub) observe(r *bootReader, e *Event) {
	g.events++
	data := trimNUL(e.Data)
	text, isLine := grubTextOf(data)
	if text == nil || e.Type != TypeIPL {
		g.other(r, e)
		return
	}
	if !r.bank.covers(e.Digest, text) {
		g.doubt("the digest of an event of PCR 8 does not cover its text")
	}
	t := grubText{text: text, digest: e.Digest, index: e.Index}
	word, _, _ := bytes.Cut(text, []byte(" "))
	switch string(word) {
	case "linux", "linuxefi", "linux16", "chainloader", "multiboot", "multiboot2", "xen_hypervisor", "kfreebsd",
		"knetbsd", "kopenbsd", "xnu_kernel", "xnu_kernel64", "ntldr", "freedos", "plan9": // make something else run
		g.starts = appendBounded(g.starts, t)
	case "initrd", "initrdefi", "initrd16":
		g.initrd = t
		g.initrds++
	}
	if isLine || len(g.starts) > 0 && sameWords(text, handedOver(g.starts[0].text)) {
		g.lines = appendBounded(g.lines, t)
	}
}

// grubTextOf takes the prefix off; nil where there is none of GRUB's.
func grubTextOf(data []byte) (text []byte, isLine bool) {
	for i, p := range grubPrefixes {
		if len(data) >= len(p) && string(data[:len(p)]) == p {
			return data[len(p):], i == kernelLine
		}
	}
	return nil, false
}

func appendBounded(list []grubText, t grubText) []grubText {
	if len(list) >= 2 { // two are one too many already
		return list
	}
	return append(list, t)
}

func (g *grub) doubt(why string) {
	if g.broken == "" {
		g.broken = why
	}
}

// handedOver is what a command that starts a kernel hands to it.
func handedOver(command []byte) []byte {
	_, rest, _ := bytes.Cut(command, []byte(" "))
	return bytes.TrimLeft(rest, " ")
}

// sameWords compares without quotes and backslashes: GRUB's log of a command has
// none, the line that it hands over has them where an argument holds a blank.
func sameWords(a, b []byte) bool {
	for {
		a, b = skipQuotes(a), skipQuotes(b)
		if len(a) == 0 || len(b) == 0 {
			return len(a) == len(b)
		}
		if a[0] != b[0] {
			return false
		}
		a, b = a[1:], b[1:]
	}
}

func skipQuotes(s []byte) []byte { return bytes.TrimLeft(s, `"\`) }

// other is an event of PCR 8 that is not GRUB's: systemd-boot before version 251
// measured its options here, as UTF-16.
func (g *grub) other(r *bootReader, e *Event) {
	g.doubt("PCR 8 holds an event that is not GRUB's")
	if e.Type != TypeIPL || g.events > 1 {
		return
	}
	text, clean := utf16Line(e.Data)
	if text == "" || !clean {
		return
	}
	c := CommandLine{text: text, digest: e.Digest, pcr: 8, event: e.Index, known: true}
	if !coversLine(r.bank, e) {
		c.why = "the digest in PCR 8 does not cover the text in the log"
	} else {
		c.why = "nothing tells what else PCR 8 holds"
	}
	g.line = c
}

// coversLine: loaders differ in whether they hash the closing zero.
func coversLine(b Bank, e *Event) bool {
	text := bytes.TrimSuffix(e.Data, []byte{0, 0})
	return b.covers(e.Digest, e.Data) || b.covers(e.Digest, text)
}

// file reads an event of PCR 9: a file of GRUB's, or what the EFI stub of the
// kernel measures.
func (g *grub) file(r *bootReader, e *Event) {
	if e.Type == TypeEventTag {
		r.loader.tagged(r, e)
		return
	}
}

// finish decides about PCR 8 and names kernel and initrd in PCR 9.
func (g *grub) finish(r *bootReader, x *explained) {
	if len(g.lines) == 0 && len(g.starts) == 0 {
		return
	}
	why := g.broken
	switch {
	case why != "":
	case len(g.starts) != 1:
		why = "PCR 8 does not hold exactly one command that starts a kernel"
	case len(g.lines) != 1 || !sameWords(g.lines[0].text, handedOver(g.starts[0].text)):
		why = "PCR 8 does not hold exactly one command line, that of the kernel it starts"
	case g.lines[0].index < g.starts[0].index:
		why = "the command line stands before the command that starts the kernel"
	case !x.sound(4):
		why = "the grammar of PCR 4 does not hold"
	}
	path := ""
	if len(g.lines) > 0 {
		path = g.commandLineOf(g.lines[0], why)
		g.name(r, KindKernel, path, g.line.proved)
	}
	if g.initrds == 1 {
		for _, file := range strings.Fields(string(handedOver(g.initrd.text))) {
			g.name(r, KindInitrd, file, g.line.proved)
		}
	}
}

// commandLineOf takes the path of the kernel off the line, and returns it.
func (g *grub) commandLineOf(t grubText, why string) (path string) {
	path, rest, _ := strings.Cut(string(t.text), " ")
	text, clean := cleanLine(strings.TrimLeft(rest, " "))
	if why == "" && !clean {
		why = "the command line is too long or holds bytes that cannot be shown"
	}
	g.line = CommandLine{text: text, digest: t.digest, pcr: 8, event: t.index, known: clean, proved: why == "", why: why}
	return path
}

// name finds the file of PCR 9 that the log gives this path. Which of the digests
// is the file's, is a claim: no digest covers a path.
func (g *grub) name(r *bootReader, kind Kind, path string, pathProved bool) {
	text, clean := printableText(path)
	for w := r.log.walk(); r.known[9] && w.next(); {
		e := &w.event
		if e.PCR != 9 || e.Type != TypeIPL || !isPath(e.Data, path) {
			continue
		}
		r.add(Fact{
			Kind: kind, Text: text, Digest: e.Digest, PCR: 9, Event: e.Index, TextProved: pathProved && clean,
			Why: "the digest of a file does not cover its path",
		})
		return
	}
}

// isPath reports the path as GRUB logs it, with or without its device.
func isPath(data []byte, path string) bool {
	name, _, _ := bytes.Cut(data, []byte{0})
	rest, ok := bytes.CutSuffix(name, []byte(path))
	return ok && path != "" && (len(rest) == 0 || rest[len(rest)-1] == ')')
}
