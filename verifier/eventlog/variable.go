package eventlog

import "bytes"

// globalVariable is EFI_GLOBAL_VARIABLE, 8be4df61-93ca-11d2-aa0d-00e098032b8c,
// in the byte order of EFI_GUID: the namespace of SecureBoot. A variable of the
// same name elsewhere is anyone's to set.
var globalVariable = []byte{0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c}

// variable is UEFI_VARIABLE_DATA (TCG PFP 10.2.6).
type variable struct {
	guid []byte // 16 bytes
	name []byte // UTF-16LE
	data []byte
}

// parseVariable reads UEFI_VARIABLE_DATA that fills data exactly. Both lengths
// are 64 bits wide and counted in different units, which is where parsers wrap.
func parseVariable(data []byte) (variable, bool) {
	r := reader{rest: data}
	v := variable{guid: r.take(16)}
	chars, size := r.u64(), r.u64()
	if chars > uint64(len(r.rest))/2 {
		return variable{}, false
	}
	v.name = r.take(2 * chars)
	v.data = r.take(size)
	if r.short || len(r.rest) != 0 {
		return variable{}, false
	}
	return v, true
}

// named reports whether the variable has this ASCII name.
func (v variable) named(name string) bool {
	if len(v.name) != 2*len(name) {
		return false
	}
	for i := range len(name) {
		if v.name[2*i] != name[i] || v.name[2*i+1] != 0 {
			return false
		}
	}
	return true
}

func (v variable) isSecureBoot() bool {
	return bytes.Equal(v.guid, globalVariable) && v.named(secureBootName)
}

// holdsSignatures reports whether the variable holds EFI_SIGNATURE_LISTs.
func (v variable) holdsSignatures() bool {
	for _, name := range [...]string{"PK", "KEK", "db", "dbx", "dbt", "dbr"} {
		if v.named(name) {
			return true
		}
	}
	return false
}

// validSignatureLists checks a sequence of EFI_SIGNATURE_LIST (UEFI 2.10,
// 32.4.1). A header is refused although the form allows one: no registered type
// has it, and a parser that does not skip it reads hashes that an attacker put
// there (GHSA-9r4w-jg96-92mv).
func validSignatureLists(data []byte) bool {
	for len(data) > 0 {
		// A header that is cut short has no list length, or one beyond the data.
		r := reader{rest: data}
		r.take(16) // signature type
		list, head, each := uint64(r.u32()), r.u32(), uint64(r.u32())
		if list < listHeader || list > uint64(len(data)) || head != 0 || each < ownerSize {
			return false
		}
		if (list-listHeader)%each != 0 {
			return false
		}
		data = data[list:]
	}
	return true
}
