package eventlog

import "bytes"

// Tags of EV_EVENT_TAG (TCG PFP, TCG_PCClientTaggedEvent): an id, a length, text.
const (
	tagInitrd      = 0x8f3b22ec // kernel, drivers/firmware/efi/libstub/efistub.h
	tagLoadOptions = 0x8f3b22ed
	tagLoaderConf  = 0xf5bc582a // systemd, docs/TPM2_PCR_MEASUREMENTS.md
	tagDeviceTree  = 0x6c46f751
	tagInitrdAddon = 0x49dffe0f
	tagUcodeAddon  = 0xdac08e1a
)

// loader reads what systemd-boot and systemd-stub measure into PCR 5, 12 and 13,
// and the kernel's EFI stub into PCR 9.
type loader struct {
	command CommandLine
	lines   int
	events  int // of PCR 12
}

// archives are the names that systemd-stub gives to what it packs for the initrd.
// The digest is that of the archive.
var archives = [...]string{"Credentials initrd", "Global credentials initrd", "System extension initrd", "Configuration extension initrd"}

func (l *loader) observe(r *bootReader, e *Event) {
	if e.PCR == 12 {
		l.events++
	}
	if e.Type == TypeEventTag {
		l.tagged(r, e)
		return
	}
	if e.Type != TypeIPL || e.PCR == 5 {
		return
	}
	text, clean := utf16Line(e.Data)
	for _, name := range archives {
		if text == name {
			r.add(Fact{Kind: KindConfig, Text: name, Digest: e.Digest, PCR: e.PCR, Event: e.Index, Why: "the digest of an archive does not cover its name"})
			return
		}
	}
	if e.PCR != 12 || !coversLine(r.bank, e) {
		return
	}
	l.lines++
	l.command = CommandLine{text: text, digest: e.Digest, pcr: 12, event: e.Index, known: clean, proved: clean}
}

func (l *loader) tagged(r *bootReader, e *Event) {
	rd := reader{rest: e.Data}
	id := rd.u32()
	text := rd.take(uint64(rd.u32()))
	if rd.short {
		return
	}
	f := Fact{Kind: KindConfig, Digest: e.Digest, PCR: e.PCR, Event: e.Index, Why: "the digest of a tagged event does not cover its name"}
	switch id {
	case tagInitrd:
		f.Kind, f.Text = KindInitrd, "initrd that the kernel's EFI stub loaded"
	case tagLoadOptions:
		f.Text = "load options that the kernel's EFI stub read"
	case tagLoaderConf:
		f.Text = "loader.conf"
	case tagDeviceTree, tagInitrdAddon, tagUcodeAddon:
		f.Text = "addon " + printable(utf16Text(text))
	default:
		return
	}
	r.add(f)
}

// finish: archives and addons in PCR 12 have digests that do not cover their
// names, so that each of them may be the real command line under a false one.
func (l *loader) finish(r *bootReader) {
	c := &l.command
	if l.lines == 0 {
		return
	}
	switch {
	case l.lines > 1:
		c.proved, c.why = false, "PCR 12 holds more than one command line"
	case !c.known:
		c.proved, c.why = false, "the command line is too long or holds bytes that cannot be shown"
	case len(c.text) >= reachesKernel:
		c.proved, c.why = false, tooLong
	case l.events > 1:
		c.proved, c.why = false, "PCR 12 holds other events: one of them may be the command line"
	}
	r.besides(c)
}

// sectionNames are the PE sections that systemd-stub measures, in the order of
// the UAPI.5 specification; .pcrsig is not measured.
var sectionNames = [...]string{
	".linux", ".osrel", ".cmdline", ".initrd", ".ucode", ".splash", ".dtb", ".uname", ".sbat", ".pcrpkey",
	".profile", ".dtbauto", ".hwids", ".efifw",
}

// uki reads PCR 11: for each section its name with a closing zero, then its
// content. The names are known by their digests, so that what the log says of
// them does not matter.
type uki struct {
	events   int
	names    [len(sectionNames)]value
	ready    bool
	pending  int // index into sectionNames of a name whose content follows, plus 1
	last     int // index of the last section, plus 1
	sections []Fact
	broken   string
	at       int // event that broke it
	command  CommandLine
}

func (u *uki) observe(r *bootReader, e *Event) {
	u.events++
	if !u.ready {
		u.names, u.ready = sectionDigests(r.bank), true
	}
	if u.pending > 0 {
		u.section(r, e)
		return
	}
	at := u.find(r.bank, e.Digest)
	switch {
	case at < 0 && len(u.sections) == 0:
		u.doubt(e.Index, "PCR 11 does not begin with a section of a unified kernel image")
	case at < 0:
		u.doubt(e.Index, "event # is no section")
	case at+1 <= u.last:
		u.doubt(e.Index, "event # is a section out of order")
		u.pending = at + 1
	default:
		u.pending = at + 1
	}
}

func sectionDigests(b Bank) (out [len(sectionNames)]value) {
	for i, name := range sectionNames {
		out[i] = b.hash([]byte(name + "\x00"))
	}
	return out
}

func (u *uki) doubt(event int, why string) {
	if u.broken == "" {
		u.broken, u.at = numbered(why, event), event
	}
}

func (u *uki) find(b Bank, digest []byte) int {
	for i := range u.names {
		if bytes.Equal(u.names[i][:b.Size()], digest) {
			return i
		}
	}
	return -1
}

func (u *uki) section(r *bootReader, e *Event) {
	at := u.pending - 1
	u.pending, u.last = 0, max(u.last, at+1)
	if len(u.sections) >= maxFactsOfKind {
		r.boot.omitted++
		return
	}
	u.sections = append(u.sections, Fact{Kind: KindSection, Name: sectionNames[at], Text: sectionNames[at], Digest: e.Digest, PCR: 11, Event: e.Index})
}

// finish: the pairs are proved if PCR 11 is nothing else than pairs in their
// order, each section once.
func (u *uki) finish(r *bootReader, x *explained) {
	if u.pending > 0 {
		u.doubt(0, "a section has a name and no content")
	}
	if len(u.sections) > 0 && u.broken != "" {
		x.note(11, "", u.at, "the sections of the unified kernel image are only claimed: "+u.broken)
	}
	for _, f := range u.sections {
		f.Proved, f.TextProved, f.Why = u.broken == "", u.broken == "", u.broken
		r.add(f)
		switch f.Name {
		case ".linux":
			f.Kind = KindKernel
			r.add(f)
		case ".initrd":
			f.Kind = KindInitrd
			r.add(f)
		case ".cmdline":
			u.command = CommandLine{
				digest: f.Digest, pcr: 11, event: f.Event,
				why: "the command line is a section of the unified kernel image, of which the log has the digest alone",
			}
		}
	}
}
