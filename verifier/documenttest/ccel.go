package documenttest

import (
	"crypto/sha512"
	"encoding/binary"
)

// CCEL makes a guest's event log with fill behind it, and the RTMRs that it leads
// to: Secure Boot on, a separator, and an event in each other register.
func CCEL() (log []byte, rtmrs [4][48]byte) {
	spec := append([]byte("Spec ID Event03\x00"), 0, 0, 0, 0, 0, 2, 0, 2, 1, 0, 0, 0, 0x0c, 0, 48, 0, 0)
	log = binary.LittleEndian.AppendUint32(nil, 1)
	log = binary.LittleEndian.AppendUint32(log, 3) // EV_NO_ACTION
	log = append(log, make([]byte, 20)...)
	log = append(binary.LittleEndian.AppendUint32(log, uint32(len(spec))), spec...)
	for _, e := range []struct {
		register, kind uint32
		data           []byte
	}{
		{1, 0x80000001, secureBootOn()},
		{1, 4, make([]byte, 4)},
		{2, 0x80000007, []byte("Calling EFI Application from Boot Option")},
		{3, 0x0d, []byte("/vmlinuz\x00")},
		{4, 0x06, []byte("application")},
	} {
		digest := sha384Of(e.data)
		for _, n := range []uint32{e.register, e.kind, 1} {
			log = binary.LittleEndian.AppendUint32(log, n)
		}
		log = append(append(log, 0x0c, 0), digest...)
		log = append(binary.LittleEndian.AppendUint32(log, uint32(len(e.data))), e.data...)
		r := &rtmrs[e.register-1]
		*r = sha512.Sum384(append(r[:], digest...))
	}
	for range 64 {
		log = append(log, 0xff)
	}
	return log, rtmrs
}

// secureBootOn is UEFI_VARIABLE_DATA of SecureBoot with value 1.
func secureBootOn() []byte {
	out := []byte{0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c}
	out = binary.LittleEndian.AppendUint64(out, 10)
	out = binary.LittleEndian.AppendUint64(out, 1)
	for _, c := range "SecureBoot" {
		out = append(out, byte(c), 0)
	}
	return append(out, 1)
}
