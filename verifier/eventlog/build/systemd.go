package build

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"strconv"

	"github.com/zonebroker/zonebroker/verifier/eventlog"
)

// Section appends a PE section of a unified kernel image as systemd-stub measures
// it, PCR 11: its name with a closing zero, then its content. Both records call
// themselves by the name, in UTF-16.
func (b *Builder) Section(name string, content []byte) {
	b.MeasureAs(11, eventlog.TypeIPL, []byte(name+"\x00"), utf16z(name))
	b.MeasureAs(11, eventlog.TypeIPL, content, utf16z(name))
}

// LoadOptions appends a command line as systemd-boot and systemd-stub measure it,
// PCR 12: UTF-16, the closing zero not hashed.
func (b *Builder) LoadOptions(line string) {
	text := utf16z(line)
	b.MeasureAs(12, eventlog.TypeIPL, text[:len(text)-2], text)
}

// Archive appends one of the archives that systemd-stub packs for the initrd, PCR
// 12 or 13: the digest is that of its content.
func (b *Builder) Archive(pcr int, name string, content []byte) {
	b.MeasureAs(pcr, eventlog.TypeIPL, content, utf16z(name))
}

// Tagged appends EV_EVENT_TAG: id, length, text. The digest is that of what was
// loaded.
func (b *Builder) Tagged(pcr int, id uint32, text, measured []byte) {
	data := binary.LittleEndian.AppendUint32(nil, id)
	data = binary.LittleEndian.AppendUint32(data, uint32(len(text)))
	b.MeasureAs(pcr, eventlog.TypeEventTag, measured, append(data, text...))
}

// LoaderConf appends systemd-boot's configuration, PCR 5.
func (b *Builder) LoaderConf(content []byte) {
	b.Tagged(5, 0xf5bc582a, utf16z("loader.conf"), content)
}

// unified boots a UKI from systemd-boot, as Machine.UKI says.
func (m Machine) unified(b *Builder) {
	if !m.SecureBootOff {
		b.Authority(ImageSecurity, "db", signature(signerCA))
	}
	b.Application(`\EFI\systemd\systemd-bootx64.efi`, filler("systemd-boot 257", 4096))
	b.LoaderConf([]byte("timeout 0\n"))
	b.Application(`\EFI\Linux\`+m.KernelVersion+`.efi`, append([]byte("uki "), m.Kernel...))
	b.Section(".linux", m.Kernel)
	b.Section(".osrel", []byte("ID=debian\n"))
	b.Section(".cmdline", []byte(m.CommandLine))
	b.Section(".initrd", m.Initrd)
	b.Section(".uname", []byte(m.KernelVersion))
	b.Section(".sbat", []byte("sbat,1,SBAT Version\n"))
	b.Archive(12, "Credentials initrd", filler("credentials", 64))
	b.Archive(13, "System extension initrd", filler("sysext", 64))
}

// typeOne boots a kernel that systemd-boot loads by its entry.
func (m Machine) typeOne(b *Builder) {
	if !m.SecureBootOff {
		b.Authority(ImageSecurity, "db", signature(signerCA))
	}
	b.Application(`\EFI\systemd\systemd-bootx64.efi`, filler("systemd-boot 257", 4096))
	b.LoadOptions(`initrd=\initrd-` + m.KernelVersion + " " + m.CommandLine)
	b.Application(`\vmlinuz-`+m.KernelVersion, m.Kernel)
	b.Tagged(9, 0x8f3b22ed, []byte("LOADED_IMAGE::LoadOptions\x00"), []byte(m.CommandLine))
	b.Tagged(9, 0x8f3b22ec, []byte("Linux initrd\x00"), m.Initrd)
}

// Userspace collects what systemd measures after the boot and its log,
// /run/log/systemd/tpm2-measure.log.
type Userspace struct {
	extends []Extend
	log     []byte
}

// Booted returns what systemd on a common host measures up to a boot phase:
// "enter-initrd", "leave-initrd", "sysinit", "ready"; all of them for "ready".
func Booted(phase, machineID string) *Userspace {
	u := &Userspace{}
	for _, p := range [...]string{"enter-initrd", "leave-initrd", "sysinit", "ready"} {
		u.Measure(11, "phase", p)
		if p == "enter-initrd" {
			h := sha256.Sum256([]byte("hardware"))
			u.Measure(9, "nvpcr-init", "nvpcr-init:hardware:0x1d10200:000b"+hex.EncodeToString(h[:]))
		}
		if p == "sysinit" {
			u.Measure(15, "machine-id", "machine-id:"+machineID)
		}
		if p == phase {
			break
		}
	}
	return u
}

// Measure appends a record whose digest is the hash of its text.
func (u *Userspace) Measure(pcr int, kind, text string) { u.MeasureAs(pcr, kind, []byte(text), text) }

// MeasureAs appends a record whose digest is the hash of something else than its
// text, as for a volume key.
func (u *Userspace) MeasureAs(pcr int, kind string, measured []byte, text string) {
	e := Hashed(pcr, 0, measured, nil).extend()
	u.extends = append(u.extends, e)
	u.log = append(u.log, "\x1e"+`{"pcr":`+strconv.Itoa(pcr)+`,"digests":[{"hashAlg":"sha1","digest":"`+hex.EncodeToString(e.SHA1[:])+
		`"},{"hashAlg":"sha256","digest":"`+hex.EncodeToString(e.SHA256[:])+`"},{"hashAlg":"sha384","digest":"`+hex.EncodeToString(e.SHA384[:])+
		`"}],"content_type":"systemd","content":{"string":`+strconv.Quote(text)+
		`,"bootId":"e6fd1b1ff3e442d6b2a7b0a4b0b1b2b3","timestamp":`+strconv.Itoa(4_000_000+len(u.extends))+`,"eventType":`+strconv.Quote(kind)+"}}\n"...)
}

// Bytes returns the log: one JSON object a record, as a JSON text sequence.
func (u *Userspace) Bytes() []byte { return append([]byte(nil), u.log...) }

// Extends returns what the records extend, behind those of the firmware's log.
func (u *Userspace) Extends() []Extend { return append([]Extend(nil), u.extends...) }
