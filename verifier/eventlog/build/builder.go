package build

import (
	"crypto/sha1" // the bank of that name, which nothing trusts
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"slices"
	"unicode/utf16"

	"github.com/zonebroker/zonebroker/verifier/eventlog"
)

// Event is one record of the log. The digests of both banks stand beside the
// data because nothing in the form ties them together.
type Event struct {
	PCR    int
	Type   uint32
	SHA1   [sha1.Size]byte
	SHA256 [sha256.Size]byte
	SHA384 [sha512.Size384]byte
	Data   []byte
}

// Hashed returns an event that extends the hashes of measured.
func Hashed(pcr int, typ uint32, measured, data []byte) Event {
	return Event{PCR: pcr, Type: typ, SHA1: sha1.Sum(measured), SHA256: sha256.Sum256(measured), SHA384: sha512.Sum384(measured), Data: data}
}

func (e Event) extend() Extend {
	return Extend{PCR: e.PCR, SHA1: e.SHA1, SHA256: e.SHA256, SHA384: e.SHA384}
}

// Extend is what a TPM has to be told so that a log replays to its PCRs.
type Extend struct {
	PCR    int
	SHA1   [sha1.Size]byte
	SHA256 [sha256.Size]byte
	SHA384 [sha512.Size384]byte
	Banks  []eventlog.Bank // that the log has; nil for SHA-1, SHA-256 and, if not zero, SHA-384
}

// ExtendsOf returns what a TPM has to be told so that it stands where any log says
// it does, whoever wrote that: records of a legacy log too, and of one that is
// refused, as far as it can be read. Banks of other hashes are left out.
func ExtendsOf(log eventlog.Listing) []Extend {
	out := make([]Extend, 0, len(log.Records))
	for _, r := range log.Records {
		if r.Type == eventlog.TypeNoAction {
			continue
		}
		e := Extend{PCR: r.PCR}
		for _, bank := range [...]eventlog.Bank{eventlog.SHA1, eventlog.SHA256, eventlog.SHA384} {
			if d := r.In(bank); d != nil {
				copy(e.room(bank), d)
				e.Banks = append(e.Banks, bank)
			}
		}
		out = append(out, e)
	}
	return out
}

func (e *Extend) room(bank eventlog.Bank) []byte {
	switch bank {
	case eventlog.SHA1:
		return e.SHA1[:]
	case eventlog.SHA384:
		return e.SHA384[:]
	}
	return e.SHA256[:]
}

// Builder collects the records of a log behind its Spec ID record.
type Builder struct {
	events []Event
}

// New returns a builder that holds the given events.
func New(events ...Event) *Builder { return &Builder{events: slices.Clone(events)} }

// Events returns the records after the Spec ID record, in log order. The slice
// is the caller's: change it and pass it to New to forge a log.
func (b *Builder) Events() []Event { return slices.Clone(b.events) }

// Extends returns what the log extends, in log order; EV_NO_ACTION extends
// nothing.
func (b *Builder) Extends() []Extend {
	out := make([]Extend, 0, len(b.events))
	for _, e := range b.events {
		if e.Type != eventlog.TypeNoAction {
			out = append(out, e.extend())
		}
	}
	return out
}

// Bytes returns the log: the Spec ID record for SHA-1 and SHA-256, then all
// events, little-endian (TCG PFP 10.2.1 and 10.2.2).
func (b *Builder) Bytes() []byte {
	return b.BytesIn(eventlog.SHA1, eventlog.SHA256)
}

// BytesIn returns the log for other banks, in the order given.
func (b *Builder) BytesIn(banks ...eventlog.Bank) []byte {
	algs := make([]Algorithm, len(banks))
	for i, bank := range banks {
		algs[i] = Algorithm{ID: uint16(bank), Size: uint16(len(Event{}.in(bank)))}
	}
	out := SpecID(algs...)
	for _, e := range b.events {
		out = e.append(out, banks...)
	}
	return out
}

// in returns the digest of a bank.
func (e Event) in(bank eventlog.Bank) []byte {
	switch bank {
	case eventlog.SHA1:
		return e.SHA1[:]
	case eventlog.SHA384:
		return e.SHA384[:]
	}
	return e.SHA256[:]
}

// Append appends the record to a log and returns the longer slice.
func (e Event) Append(log []byte) []byte { return e.append(log, eventlog.SHA1, eventlog.SHA256) }

func (e Event) append(log []byte, banks ...eventlog.Bank) []byte {
	le := binary.LittleEndian
	log = le.AppendUint32(log, uint32(e.PCR))
	log = le.AppendUint32(log, e.Type)
	log = le.AppendUint32(log, uint32(len(banks)))
	for _, bank := range banks {
		log = append(le.AppendUint16(log, uint16(bank)), e.in(bank)...)
	}
	log = le.AppendUint32(log, uint32(len(e.Data)))
	return append(log, e.Data...)
}

// Algorithm is a bank of the Spec ID record; Size in bytes.
type Algorithm struct{ ID, Size uint16 }

// SpecID returns the first record of a log: TCG_EfiSpecIDEvent, version 2.0
// errata 2, in a legacy record that extends nothing.
func SpecID(algs ...Algorithm) []byte {
	le := binary.LittleEndian
	data := []byte("Spec ID Event03\x00")
	data = append(data, 0, 0, 0, 0, 0, 2, 2, 2) // client platform, 2.0 errata 2, 64-bit UINTN
	data = le.AppendUint32(data, uint32(len(algs)))
	for _, a := range algs {
		data = le.AppendUint16(data, a.ID)
		data = le.AppendUint16(data, a.Size)
	}
	data = append(data, 0) // no vendor info
	return Legacy(0, eventlog.TypeNoAction, [sha1.Size]byte{}, data)
}

// Legacy returns a record of the SHA-1 form, TCG_PCR_EVENT.
func Legacy(pcr int, typ uint32, digest [sha1.Size]byte, data []byte) []byte {
	le := binary.LittleEndian
	out := le.AppendUint32(nil, uint32(pcr))
	out = le.AppendUint32(out, typ)
	out = append(out, digest[:]...)
	out = le.AppendUint32(out, uint32(len(data)))
	return append(out, data...)
}

// Measure appends an event whose digest is the hash of its data.
func (b *Builder) Measure(pcr int, typ uint32, data []byte) {
	b.MeasureAs(pcr, typ, data, data)
}

// MeasureAs appends an event whose digest is the hash of something else than its
// data: of a file, an image, a string without its prefix.
func (b *Builder) MeasureAs(pcr int, typ uint32, measured, data []byte) {
	b.events = append(b.events, Hashed(pcr, typ, measured, data))
}

// NoAction appends an EV_NO_ACTION record, which extends nothing.
func (b *Builder) NoAction(pcr int, data []byte) {
	b.events = append(b.events, Event{PCR: pcr, Type: eventlog.TypeNoAction, Data: data})
}

// StartupLocality says at which locality the TPM was started: 0, 3 or 4. A TPM
// that is booted by this log has to be started there.
func (b *Builder) StartupLocality(locality byte) {
	b.NoAction(0, append([]byte("StartupLocality\x00"), locality))
}

// FirmwareVersion appends EV_S_CRTM_VERSION, PCR 0.
func (b *Builder) FirmwareVersion(version string) {
	b.Measure(0, eventlog.TypeSCRTMVersion, utf16z(version))
}

// FirmwareBlob appends the measurement of a firmware volume, PCR 0. The event
// data is its address and length.
func (b *Builder) FirmwareBlob(base uint64, image []byte) {
	data := binary.LittleEndian.AppendUint64(nil, base)
	data = binary.LittleEndian.AppendUint64(data, uint64(len(image)))
	b.MeasureAs(0, eventlog.TypePlatformFirmwareBlob, image, data)
}

// Variable appends a Secure Boot variable, EV_EFI_VARIABLE_DRIVER_CONFIG, PCR 7.
func (b *Builder) Variable(guid GUID, name string, value []byte) {
	b.Measure(7, eventlog.TypeVariableDriverConfig, VariableData(guid, name, value))
}

// Authority appends the entry that allowed an image to run, PCR 7.
func (b *Builder) Authority(guid GUID, name string, value []byte) {
	b.Measure(7, eventlog.TypeVariableAuthority, VariableData(guid, name, value))
}

// BootVariable appends BootOrder or BootXXXX, PCR 1. As on most machines only the
// value is hashed.
func (b *Builder) BootVariable(name string, value []byte) {
	b.MeasureAs(1, eventlog.TypeVariableBoot, value, VariableData(GlobalVariable, name, value))
}

// Separator appends EV_SEPARATOR to each PCR given.
func (b *Builder) Separator(pcrs ...int) {
	for _, pcr := range pcrs {
		b.Measure(pcr, eventlog.TypeSeparator, make([]byte, 4))
	}
}

// Action appends EV_EFI_ACTION with its text.
func (b *Builder) Action(pcr int, text string) {
	b.Measure(pcr, eventlog.TypeEFIAction, []byte(text))
}

// GPT appends the partition table of the boot disk, PCR 5.
func (b *Builder) GPT(table []byte) {
	b.Measure(5, eventlog.TypeGPTEvent, table)
}

// Application appends a started EFI image, PCR 4. The event data is
// UEFI_IMAGE_LOAD_EVENT with the path of the file.
func (b *Builder) Application(path string, image []byte) {
	device := append([]byte{0x04, 0x04}, 0, 0)
	device = append(device, utf16z(path)...)
	binary.LittleEndian.PutUint16(device[2:], uint16(len(device)))
	device = append(device, 0x7f, 0xff, 4, 0)

	data := binary.LittleEndian.AppendUint64(nil, 0x7e000000) // where it was loaded
	data = binary.LittleEndian.AppendUint64(data, uint64(len(image)))
	data = binary.LittleEndian.AppendUint64(data, 0)
	data = binary.LittleEndian.AppendUint64(data, uint64(len(device)))
	b.MeasureAs(4, eventlog.TypeBootServicesApp, image, append(data, device...))
}

// GRUBCommand appends a line that GRUB ran, PCR 8. The prefix in the data is not
// hashed, nor is the closing zero.
func (b *Builder) GRUBCommand(line string) {
	b.MeasureAs(8, eventlog.TypeIPL, []byte(line), []byte("grub_cmd: "+line+"\x00"))
}

// CommandLine appends the kernel's command line, PCR 8, as GRUB measures it.
func (b *Builder) CommandLine(line string) {
	b.MeasureAs(8, eventlog.TypeIPL, []byte(line), []byte("kernel_cmdline: "+line+"\x00"))
}

// File appends a file that GRUB read, PCR 9: the digest is that of its content,
// the data its path.
func (b *Builder) File(path string, content []byte) {
	b.MeasureAs(9, eventlog.TypeIPL, content, []byte(path+"\x00"))
}

// MOK appends one of shim's lists of machine owner keys, PCR 14.
func (b *Builder) MOK(name string, value []byte) {
	b.MeasureAs(14, eventlog.TypeIPL, value, []byte(name+"\x00"))
}

// GUID is an EFI_GUID in the byte order of the wire.
type GUID [16]byte

// Namespaces of variables.
var (
	// GlobalVariable is 8be4df61-93ca-11d2-aa0d-00e098032b8c: SecureBoot, PK, KEK,
	// BootOrder.
	GlobalVariable = GUID{0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c}
	// ImageSecurity is d719b2cb-3d3a-4596-a3bc-dad00e67656f: db, dbx.
	ImageSecurity = GUID{0xcb, 0xb2, 0x19, 0xd7, 0x3a, 0x3d, 0x96, 0x45, 0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f}
	// ShimLock is 605dab50-e046-4300-abb6-3dd810dd8b23: what shim measures.
	ShimLock = GUID{0x50, 0xab, 0x5d, 0x60, 0x46, 0xe0, 0x00, 0x43, 0xab, 0xb6, 0x3d, 0xd8, 0x10, 0xdd, 0x8b, 0x23}
)

var (
	certX509   = GUID{0xa1, 0x59, 0xc0, 0xa5, 0xe4, 0x94, 0xa7, 0x4a, 0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0, 0x72}
	certSHA256 = GUID{0x26, 0x16, 0xc4, 0xc1, 0x4c, 0x50, 0x92, 0x40, 0xac, 0xa9, 0x41, 0xf9, 0x36, 0x93, 0x43, 0x28}
	owner      = GUID{0xbd, 0x9a, 0xfa, 0x77, 0x59, 0x03, 0x32, 0x4d, 0xbd, 0x60, 0x28, 0xf4, 0xe7, 0x8f, 0x78, 0x4b}
)

// VariableData returns UEFI_VARIABLE_DATA.
func VariableData(guid GUID, name string, value []byte) []byte {
	chars := utf16.Encode([]rune(name))
	out := append([]byte(nil), guid[:]...)
	out = binary.LittleEndian.AppendUint64(out, uint64(len(chars)))
	out = binary.LittleEndian.AppendUint64(out, uint64(len(value)))
	for _, c := range chars {
		out = binary.LittleEndian.AppendUint16(out, c)
	}
	return append(out, value...)
}

// utf16z returns a UTF-16LE string with its closing zero.
func utf16z(s string) []byte {
	var out []byte
	for _, c := range utf16.Encode([]rune(s)) {
		out = binary.LittleEndian.AppendUint16(out, c)
	}
	return append(out, 0, 0)
}
