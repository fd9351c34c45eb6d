package eventlog

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
)

// firmware takes the version from EV_S_CRTM_VERSION before the separator of
// PCR 0: behind it, root can extend whatever has the form of a version.
func (r *bootReader) firmware(e *Event) {
	if e.Type != TypeSCRTMVersion {
		return
	}
	f := Fact{Kind: KindFirmware, Text: firmwareVersion(e.Data), Digest: e.Digest, PCR: 0, Event: e.Index}
	switch {
	case r.separated[0]:
		f.Why = "it stands behind the separator of PCR 0"
	case !r.bank.covers(e.Digest, e.Data):
		f.Why = "its digest does not cover the version"
	default:
		r.versions++
		f.Proved, f.TextProved = true, true
	}
	r.add(f)
}

// firmwareVersion: makers write UTF-16, ASCII, or a GUID (TCG PFP 10.4.1).
func firmwareVersion(data []byte) string {
	text := utf16Text(data)
	if clean, ok := printableText(text); ok && text != "" {
		return strings.TrimSpace(clean)
	}
	if text, ok := printableText(string(trimNUL(data))); ok && text != "" {
		return strings.TrimSpace(text)
	}
	if len(data) == 16 {
		return "guid " + guidText(data)
	}
	return ""
}

// guidText writes an EFI_GUID (UEFI 2.10, appendix A); guid has 16 bytes.
func guidText(guid []byte) string {
	le := binary.LittleEndian
	return fmt.Sprintf("%08x-%04x-%04x-%x-%x", le.Uint32(guid), le.Uint16(guid[4:]), le.Uint16(guid[6:]), guid[8:10], guid[10:16])
}

// application lists the EFI images of PCR 4. Their digest is Authenticode, which
// covers neither path nor name. The authority is the one that the log has before
// the image, and its place is a claim: nothing authenticates an order between
// PCRs.
func (r *bootReader) application(e *Event) {
	switch e.Type {
	case TypeBootServicesApp, TypeBootServicesDriver, TypeRuntimeServicesDriver:
	default:
		return
	}
	f := Fact{
		Kind: KindApplication, Text: printable(imagePath(e.Data)), Authority: r.authority,
		Digest: e.Digest, PCR: 4, Event: e.Index, Why: perhapsLater + "; the digest of an image does not cover its path",
	}
	r.authority = ""
	r.add(f)
}

// securityConfig reads PCR 7: keys before the separator, authorities behind it.
func (r *bootReader) securityConfig(e *Event) {
	v, ok := parseVariable(e.Data)
	if !ok {
		r.authBad = r.authBad || e.Type == TypeVariableAuthority
		return
	}
	covered := r.bank.covers(e.Digest, e.Data)
	switch {
	case e.Type == TypeVariableDriverConfig && !r.separated[7]:
		if v.holdsSignatures() {
			r.keys(e, v, covered)
		}
	case e.Type == TypeVariableAuthority:
		r.authBad = r.authBad || !covered
		r.vouched(e, v, covered)
	}
}

func (r *bootReader) keys(e *Event, v variable, covered bool) {
	name := printable(utf16Text(v.name))
	k := KeyStore{name: name, digest: e.Digest, event: e.Index, data: v.data}
	k.count()
	f := Fact{Kind: KindKeys, Name: name, Text: k.String(), Digest: e.Digest, PCR: 7, Event: e.Index}
	switch {
	case !covered:
		f.Why = "its digest does not cover the variable"
	case !k.valid:
		f.Why = "it holds an impossible signature list"
	default:
		f.Proved, f.TextProved, k.proved = true, true, true
	}
	if len(r.boot.keys) < maxFactsOfKind {
		r.boot.keys = append(r.boot.keys, k)
	}
	r.add(f)
}

// perhapsLater is what facts lack that stand behind a separator, or have none:
// root can extend their PCR at any time with an event that hashes.
const perhapsLater = "measured, perhaps after the boot"

// vouched reads EV_EFI_VARIABLE_AUTHORITY: the entry of db, MokList or shim's own
// certificate that an image was verified with, or a setting of shim's.
func (r *bootReader) vouched(e *Event, v variable, covered bool) {
	name := printable(utf16Text(v.name))
	f := Fact{Kind: KindAuthority, Name: name, Digest: e.Digest, PCR: 7, Event: e.Index, Proved: covered, Why: perhapsLater}
	if !covered {
		f.Why = "its digest does not cover the entry, as from some versions of shim"
	}
	switch {
	case v.named("SbatLevel"):
		f.Kind, f.Text = KindRevocations, sbatLevel(v.data)
		r.levels++
	case v.named("MokListTrusted"), v.named("MokListX"), v.named("MokSBState"):
		f.Kind, f.Text = KindMOK, fmt.Sprintf("%d bytes", len(v.data))
	default:
		f.Text = vouchingEntry(v.data)
		r.authority = name + " " + f.Text
	}
	r.add(f)
}

// sbatLevel is the generation date of the SBAT revocations: "sbat,1,2023012900"
// begins with the form's version and the date (shim, SBAT.md).
func sbatLevel(data []byte) string {
	first, _, _ := strings.Cut(string(trimNUL(data)), "\n")
	return printable(first)
}

// vouchingEntry names a certificate or hash by its SHA-256. db has
// EFI_SIGNATURE_DATA, with an owner before the entry; shim measures the bare
// certificate.
func vouchingEntry(data []byte) string {
	if len(data) > 0 && data[0] == derSequence {
		return "certificate " + fingerprint(data)
	}
	if len(data) == ownerSize+sha256.Size {
		return "hash " + hex.EncodeToString(data[ownerSize:])
	}
	if len(data) > ownerSize && data[ownerSize] == derSequence {
		return "certificate " + fingerprint(data[ownerSize:])
	}
	return fmt.Sprintf("%d bytes", len(data))
}

func fingerprint(der []byte) string {
	h := sha256.Sum256(der)
	return hex.EncodeToString(h[:])
}

// mok lists what shim measures into PCR 14. The name in the data is not hashed.
func (r *bootReader) mok(e *Event) {
	if e.Type != TypeIPL {
		return
	}
	r.add(Fact{
		Kind: KindMOK, Name: printable(string(trimNUL(e.Data))), Digest: e.Digest, PCR: 14, Event: e.Index,
		Why: "the digest of a list does not cover its name",
	})
}

// firmwareStanding takes proofs back where the grammar of their PCR does not
// hold: somebody may have renamed events there.
func (r *bootReader) firmwareStanding(x *explained) {
	if x.secureBoot != "" {
		r.add(Fact{Kind: KindSecureBoot, Text: x.secureBoot, PCR: 7, Event: x.secureBootEvent, Proved: true, TextProved: true})
	}
	for i := range r.boot.facts {
		f := &r.boot.facts[i]
		switch f.Kind {
		case KindFirmware:
			r.weaken(f, r.versions != 1, "there is more than one version")
			r.weaken(f, !r.separated[0], "PCR 0 has no separator")
		case KindKeys:
			r.weaken(f, x.secureBoot == "", "the grammar of PCR 7 does not hold")
		case KindAuthority, KindRevocations, KindMOK:
			if f.PCR == 7 {
				r.weaken(f, x.secureBoot == "", "the grammar of PCR 7 does not hold")
				r.weaken(f, r.authBad, "another authority is not covered by its digest")
				r.weaken(f, f.Kind == KindRevocations && r.levels > 1, "PCR 7 holds more than one SBAT level")
			}
		case KindApplication:
			f.Proved = x.sound(4)
			if !f.Proved {
				f.Why = "the grammar of PCR 4 does not hold"
			}
		}
	}
	for i := range r.boot.keys {
		r.boot.keys[i].proved = r.boot.keys[i].proved && x.secureBoot != ""
	}
}

// weaken makes a fact a claim if the reason holds; the first reason stays.
func (r *bootReader) weaken(f *Fact, reason bool, why string) {
	if !reason {
		return
	}
	if f.Proved {
		f.Why = why
	}
	f.Proved, f.TextProved = false, false
}
