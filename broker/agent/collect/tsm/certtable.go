package tsm

import (
	"encoding/binary"
	"encoding/hex"
)

// The table that a host gives along (GHCB specification 2.03, 4.1.8.1): entries of
// a GUID, an offset and a length, ended by one of zeros.
const (
	tableEntry  = 24
	maxEntries  = 16
	maxChipCert = 8 << 10

	guidVCEK = "63da758de6644564adc5f4b93be8accd"
	guidVLEK = "a8074bc2a25a483eaae639c045a0b8a1"

	// KEY_INFO of a report: which key signed it (SEV-SNP ABI 1.55, table 23).
	keyInfoOffset = 0x48
	signedByVLEK  = 1
)

// endorsement returns the certificate of the key that signed a report, as the part
// of its name; nil where the host gave none. A broker may have it itself, so that
// is no failure.
func endorsement(report, table []byte) map[string][]byte {
	guid, part := guidVCEK, "vcek"
	if len(report) > keyInfoOffset && report[keyInfoOffset]>>2&7 == signedByVLEK {
		guid, part = guidVLEK, "vlek"
	}
	if der := entryOf(table, guid); der != nil {
		return map[string][]byte{part: der}
	}
	return nil
}

func entryOf(table []byte, guid string) []byte {
	for i := range maxEntries {
		at := i * tableEntry
		if at+tableEntry > len(table) {
			return nil
		}
		offset := uint64(binary.LittleEndian.Uint32(table[at+16:]))
		length := uint64(binary.LittleEndian.Uint32(table[at+20:]))
		if length == 0 {
			return nil
		}
		if hex.EncodeToString(table[at:at+16]) == guid && length <= maxChipCert && offset+length <= uint64(len(table)) {
			return table[offset : offset+length]
		}
	}
	return nil
}
