package eventlog

import (
	"bytes"
	"slices"
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
// hashes, exactly one of them starts a kernel under whatever prefix, exactly one
// begins with a file as a command line does, it is what that command hands over,
// and no command ended the measuring.
type grub struct {
	events  int
	broken  string // why PCR 8 is not a sequence of texts
	starts  []grubText
	handed  []byte // what the first of starts hands over, without quotes
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
		"knetbsd", "kopenbsd", "xnu_kernel", "xnu_kernel64", "ntldr", "freedos", "plan9",
		"legacy_kernel", "uki", "pxechain", "appleloader": // make something else run
		if g.starts = appendBounded(g.starts, t); len(g.starts) == 1 {
			g.handed = unquoted(handedOver(text))
		}
	case "exit", "rmmod", "write_byte", "write_word", "write_dword":
		// The firmware's next boot option, a GRUB without its tpm module, or another
		// line in memory: what runs then is not what was measured.
		g.doubt("PCR 8 holds a command behind which GRUB does not measure what runs")
	case "initrd", "initrdefi", "initrd16":
		g.initrd = t
		g.initrds++
	}
	if isLine || beginsWithFile(text) || len(g.starts) > 0 && sameWords(text, g.handed) {
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

// sameWords compares a text with words that are unquoted: GRUB's log of a command
// has no quotes, the line that it hands over has them where an argument holds a
// blank. It costs as much as the text is long, however long the words are.
func sameWords(text, words []byte) bool {
	n := 0
	for _, c := range text {
		if isQuote(c) {
			continue
		}
		if n == len(words) || words[n] != c {
			return false
		}
		n++
	}
	return n == len(words)
}

func isQuote(c byte) bool { return c == '"' || c == '\\' }

func unquoted(s []byte) []byte {
	return slices.DeleteFunc(slices.Clone(s), isQuote)
}

// beginsWithFile reports a text that no command begins like: a path, with or
// without its device, or a list of blocks ("(hd0)+8", "0+8"). Some commands hand
// over a line without naming "linux" (legacy_kernel): called a command, it would
// hide behind another line.
func beginsWithFile(text []byte) bool {
	for _, c := range text {
		if !isQuote(c) {
			return c == '/' || c == '(' || c == '+' || c >= '0' && c <= '9'
		}
	}
	return false
}

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
	if len(g.lines) == 0 {
		return
	}
	why := g.broken
	switch {
	case why != "":
	case len(g.starts) != 1:
		why = "PCR 8 does not hold exactly one command that starts a kernel"
	case !bytes.HasPrefix(g.starts[0].text, []byte("linux")):
		why = "what GRUB starts is no Linux kernel: the command line is that of a hypervisor or loader"
	case len(g.lines) != 1 || !sameWords(g.lines[0].text, g.handed):
		why = "PCR 8 does not hold exactly one command line, that of the kernel it starts"
	case g.lines[0].index < g.starts[0].index:
		why = "the command line stands before the command that starts the kernel"
	case !x.sound(4):
		why = "the grammar of PCR 4 does not hold"
	}
	path := g.commandLineOf(g.lines[0], why)
	r.besides(&g.line)
	if g.line.proved {
		g.files(r, path)
	}
}

// maxInitrds bounds the files of one initrd command: each is compared with each
// event of PCR 9.
const maxInitrds = 16

// commandLineOf takes the path of the kernel off the line, and returns it.
func (g *grub) commandLineOf(t grubText, why string) (path string) {
	path, rest, _ := strings.Cut(string(t.text), " ")
	text, clean := cleanLine(strings.TrimLeft(rest, " "))
	switch {
	case why != "":
	case !clean:
		why = "the command line is too long or holds bytes that cannot be shown"
	case len("BOOT_IMAGE=")+len(t.text) >= reachesKernel: // GRUB puts that before the path
		why = tooLong
	}
	g.line = CommandLine{text: text, digest: t.digest, pcr: 8, event: t.index, known: clean, proved: why == "", why: why}
	return path
}

// files finds kernel and initrd in PCR 9, in one walk, where PCR 8 proves their
// paths. Which of the digests is the file's, is a claim: no digest covers a path.
func (g *grub) files(r *bootReader, kernel string) {
	wanted := []Fact{{Kind: KindKernel, Text: kernel}}
	if g.initrds == 1 {
		for file := range strings.FieldsSeq(string(handedOver(g.initrd.text))) {
			if len(wanted) > maxInitrds {
				break
			}
			wanted = append(wanted, Fact{Kind: KindInitrd, Text: file})
		}
	}
	for w := r.log.walk(); r.known[9] && w.next(); {
		e := &w.event
		if e.PCR != 9 || e.Type != TypeIPL {
			continue
		}
		for i := range wanted {
			if f := &wanted[i]; f.Event == 0 && isPath(e.Data, f.Text) {
				f.PCR, f.Event, f.Digest = 9, e.Index, e.Digest
			}
		}
	}
	for _, f := range wanted {
		if f.Event > 0 {
			f.Text, f.TextProved = printableText(f.Text)
			f.Why = "the digest of a file does not cover its path"
			r.add(f)
		}
	}
}

// isPath reports the path as GRUB logs it, with or without its device.
func isPath(data []byte, path string) bool {
	name, _, _ := bytes.Cut(data, []byte{0})
	rest, ok := bytes.CutSuffix(name, []byte(path))
	return ok && path != "" && (len(rest) == 0 || rest[len(rest)-1] == ')')
}
