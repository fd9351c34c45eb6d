package eventlog

import (
	"bytes"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
)

const (
	listHeader  = 28 // of EFI_SIGNATURE_LIST: type, list, header and entry size
	ownerSize   = 16 // EFI_GUID before each entry
	derSequence = 0x30
	// maxEntries of a key store are returned; a dbx has hundreds of hashes.
	maxEntries = 1024
)

// Types of entries (UEFI 2.10, 32.4.1), in the byte order of EFI_GUID.
var (
	guidX509   = []byte{0xa1, 0x59, 0xc0, 0xa5, 0xe4, 0x94, 0xa7, 0x4a, 0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0, 0x72}
	guidSHA256 = []byte{0x26, 0x16, 0xc4, 0xc1, 0x4c, 0x50, 0x92, 0x40, 0xac, 0xa9, 0x41, 0xf9, 0x36, 0x93, 0x43, 0x28}
)

// Types of a KeyEntry.
const (
	EntryX509   = "x509"
	EntrySHA256 = "sha256"
	EntryOther  = "other"
)

// KeyStore is a variable of Secure Boot: PK, KEK, db or dbx. How old a dbx is, its
// content does not say: entries carry no date. Its number of entries and its
// digest do, for whoever knows what the maker published when.
type KeyStore struct {
	name                 string
	digest               []byte
	event                int
	data                 []byte
	valid, proved        bool
	certificates, hashes int
	others               int
}

// Name returns the variable's name.
func (k KeyStore) Name() string { return k.name }

// Digest returns the measured digest, over the whole UEFI_VARIABLE_DATA.
func (k KeyStore) Digest() []byte { return bytes.Clone(k.digest) }

// Event returns the number of the event in the log.
func (k KeyStore) Event() int { return k.event }

// Proved reports whether digest and grammar of PCR 7 vouch for the content.
func (k KeyStore) Proved() bool { return k.proved }

// Certificates, Hashes and Others return how many entries of a type there are.
func (k KeyStore) Certificates() int { return k.certificates }

// Hashes returns the number of SHA-256 hashes of images.
func (k KeyStore) Hashes() int { return k.hashes }

// Others returns the number of entries of another type.
func (k KeyStore) Others() int { return k.others }

// String counts the entries for a person.
func (k KeyStore) String() string {
	if !k.valid {
		return fmt.Sprintf("%d bytes that are no signature lists", len(k.data))
	}
	out := fmt.Sprintf("%d certificates, %d hashes", k.certificates, k.hashes)
	if k.others > 0 {
		out += fmt.Sprintf(", %d others", k.others)
	}
	return out
}

// KeyEntry is one entry of a KeyStore.
type KeyEntry struct {
	Type    string // EntryX509, EntrySHA256 or EntryOther
	Owner   string // GUID of who put it there, as claimed by them
	Subject string // of a certificate that parses, RFC 2253; "" otherwise
	Digest  string // hex: SHA-256 of the certificate's DER, or the hash itself
}

// Entries returns the entries in order, at most 1024 of them. Certificates are
// parsed at each call.
func (k KeyStore) Entries() []KeyEntry {
	if !k.valid {
		return nil
	}
	out := make([]KeyEntry, 0, min(k.certificates+k.hashes+k.others, maxEntries))
	k.each(func(typ string, entry []byte) {
		if len(out) == maxEntries {
			return
		}
		e := KeyEntry{Type: typ, Owner: guidText(entry)}
		body := entry[ownerSize:]
		switch typ {
		case EntryX509:
			e.Digest = fingerprint(body)
			if cert, err := x509.ParseCertificate(body); err == nil {
				e.Subject = strings.ToValidUTF8(cert.Subject.String(), "?")
			}
		case EntrySHA256:
			e.Digest = hex.EncodeToString(body)
		default:
			e.Digest = fingerprint(body)
		}
		out = append(out, e)
	})
	return out
}

func (k *KeyStore) count() {
	if k.valid = validSignatureLists(k.data); !k.valid {
		return
	}
	k.each(func(typ string, _ []byte) {
		switch typ {
		case EntryX509:
			k.certificates++
		case EntrySHA256:
			k.hashes++
		default:
			k.others++
		}
	})
}

// each calls f for each entry, owner included. The lists were found valid.
func (k *KeyStore) each(f func(typ string, entry []byte)) {
	for data := k.data; len(data) > 0; {
		list := data[:binary.LittleEndian.Uint32(data[16:])]
		data = data[len(list):]
		size := int(binary.LittleEndian.Uint32(list[24:]))
		typ := EntryOther
		switch {
		case bytes.Equal(list[:16], guidX509):
			typ = EntryX509
		case bytes.Equal(list[:16], guidSHA256) && size == ownerSize+32:
			typ = EntrySHA256
		}
		for entries := list[listHeader:]; len(entries) > 0; entries = entries[size:] {
			f(typ, entries[:size])
		}
	}
}
