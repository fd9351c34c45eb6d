package ima

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"

	"github.com/zonebroker/zonebroker/verifier/reason"
)

const (
	templateIMA   = "ima"
	maxLegacyPath = 255          // IMA_EVENT_NAME_LEN_MAX
	legacyPadded  = 20 + 255 + 1 // what is hashed: digest, path filled up with zeros
	aggregateName = "boot_aggregate"
	sha256Head    = "sha256:\x00"
)

// fieldKind is a template field that means something here; others are opaque.
type fieldKind byte

const (
	fieldOpaque fieldKind = iota
	fieldDigest           // d-ng: "algorithm:\0" and the digest
	fieldTyped            // d-ngv2: "type:algorithm:\0" and the digest
	fieldPath             // n-ng: the path, closed by NUL
	fieldSig              // sig: security.ima, or security.evm where that is missing
	fieldBuffer           // buf: the data itself
)

// Field lists of the kernel's built-in templates (ima_template.c).
var (
	fieldsNG     = []fieldKind{fieldDigest, fieldPath}
	fieldsNGv2   = []fieldKind{fieldTyped, fieldPath}
	fieldsSig    = []fieldKind{fieldDigest, fieldPath, fieldSig}
	fieldsSigv2  = []fieldKind{fieldTyped, fieldPath, fieldSig}
	fieldsBuffer = []fieldKind{fieldDigest, fieldPath, fieldBuffer}
	fieldsModsig = []fieldKind{fieldDigest, fieldPath, fieldSig, fieldOpaque, fieldOpaque}
	// evmsig, xattrnames, xattrlengths, xattrvalues, iuid, igid, imode: the
	// signature is over metadata, so it says nothing about the digest alone.
	fieldsEVM = []fieldKind{fieldDigest, fieldPath, fieldOpaque, fieldOpaque, fieldOpaque, fieldOpaque, fieldOpaque, fieldOpaque, fieldOpaque}
)

// templateFields returns the fields of a built-in template, nil for another one.
// A custom format names itself by its fields ("d-ng|sig"): it can be replayed,
// and which of its fields is a file is for nobody to guess.
func templateFields(name []byte) []fieldKind {
	switch string(name) {
	case "ima-ng":
		return fieldsNG
	case "ima-ngv2":
		return fieldsNGv2
	case "ima-sig":
		return fieldsSig
	case "ima-sigv2":
		return fieldsSigv2
	case "ima-buf":
		return fieldsBuffer
	case "ima-modsig":
		return fieldsModsig
	case "evm-sig":
		return fieldsEVM
	}
	return nil
}

// digestSizes are the kernel's hash algorithms (crypto/hash_info.c) that a file
// digest can name, with their sizes in bytes.
var digestSizes = map[string]int{
	"md4": 16, "md5": 16, "sha1": 20, "rmd160": 20, "sha256": 32, "sha384": 48, "sha512": 64, "sha224": 28,
	"rmd128": 16, "rmd256": 32, "rmd320": 40, "wp256": 32, "wp384": 48, "wp512": 64, "tgr128": 16, "tgr160": 20,
	"tgr192": 24, "sm3": 32, "sm3-256": 32, "streebog256": 32, "streebog512": 64,
	"sha3-256": 32, "sha3-384": 48, "sha3-512": 64,
}

// fields is what a record says of a file; windows of the list.
type fields struct {
	verity    bool   // the digest is fs-verity's Merkle root, not that of the content
	algorithm []byte // "sha256"
	digest    []byte
	path      []byte
	sig       []byte
	buffer    []byte
	isBuffer  bool // the record is about data in memory and not about a file
}

// read takes the fields of a record of a known template. Errors: ima.encoding;
// ima.template_unknown for another template or a hash algorithm of no name.
func (f *fields) read(r *record) *reason.Error {
	*f = fields{}
	if r.legacy {
		f.algorithm, f.digest, f.path = sha1Name, r.data[:digestSize], r.data[digestSize+4:]
		return checkPath(f.path)
	}
	kinds := templateFields(r.name)
	if kinds == nil {
		return reason.Newf(reason.IMATemplateUnknown, "template %q cannot be evaluated", r.name)
	}
	rest := r.data
	var unknown *reason.Error
	for _, kind := range kinds {
		if len(rest) < 4 {
			return errFields
		}
		size := binary.LittleEndian.Uint32(rest)
		if uint64(size) > uint64(len(rest)-4) {
			return errFields
		}
		value := rest[4 : 4+size]
		rest = rest[4+size:]
		if err := f.set(kind, value); err != nil && err.Code == reason.IMATemplateUnknown {
			unknown = err
		} else if err != nil {
			return err
		}
	}
	if len(rest) > 0 {
		return errFields
	}
	return unknown
}

var (
	errFields = reason.New(reason.IMAEncoding, "the fields of the template do not fill its data")
	sha1Name  = []byte("sha1")
)

func (f *fields) set(kind fieldKind, value []byte) *reason.Error {
	switch kind {
	case fieldTyped:
		if rest, ok := bytes.CutPrefix(value, []byte("verity:")); ok {
			f.verity = true
			return f.setDigest(rest)
		}
		rest, ok := bytes.CutPrefix(value, []byte("ima:"))
		if !ok {
			return reason.New(reason.IMAEncoding, "the type of a digest is neither ima nor verity")
		}
		return f.setDigest(rest)
	case fieldDigest:
		return f.setDigest(value)
	case fieldPath:
		if len(value) == 0 || value[len(value)-1] != 0 {
			return reason.New(reason.IMAEncoding, "a path is not closed by NUL")
		}
		f.path = value[:len(value)-1]
		return checkPath(f.path)
	case fieldSig:
		f.sig = value
	case fieldBuffer:
		f.buffer, f.isBuffer = value, true
	}
	return nil
}

// setDigest reads "algorithm:\0" and the digest.
func (f *fields) setDigest(value []byte) *reason.Error {
	if len(value) == len(sha256Head)+sha256.Size && string(value[:len(sha256Head)]) == sha256Head {
		f.algorithm, f.digest = value[:len("sha256")], value[len(sha256Head):]
		return nil // what nearly every entry has, without a search
	}
	name, digest, ok := bytes.Cut(value, []byte(":\x00"))
	if !ok || len(name) == 0 || bytes.IndexByte(name, 0) >= 0 {
		return reason.New(reason.IMAEncoding, "a digest does not name its algorithm")
	}
	size, known := digestSizes[string(name)]
	if !known {
		return reason.Newf(reason.IMATemplateUnknown, "the hash algorithm %q of a digest is unknown", printable(name))
	}
	if len(digest) != size {
		return reason.Newf(reason.IMAEncoding, "a digest of %s has %d bytes instead of %d", name, len(digest), size)
	}
	f.algorithm, f.digest = name, digest
	return nil
}

// checkPath refuses what the ASCII form of a list, a log line or a rule would
// read as something else than the kernel meant.
func checkPath(path []byte) *reason.Error {
	switch {
	case len(path) == 0:
		return reason.New(reason.IMAEncoding, "an empty path")
	case bytes.IndexByte(path, 0) >= 0:
		return reason.New(reason.IMAEncoding, "a path with NUL in it")
	case bytes.IndexByte(path, '\n') >= 0:
		return reason.New(reason.IMAEncoding, "a path with a line break in it")
	}
	return nil
}

// maxShown is how many characters of a foreign name are repeated.
const maxShown = 200

// printable makes a path or name fit for people and records: ASCII, what else
// stands in it as \xNN.
func printable(b []byte) string {
	const hexDigits = "0123456789abcdef"
	out := make([]byte, 0, min(len(b), maxShown+4))
	for _, c := range b {
		if len(out) >= maxShown {
			return string(out) + "..."
		}
		if c < ' ' || c > '~' || c == '\\' {
			out = append(out, '\\', 'x', hexDigits[c>>4], hexDigits[c&15])
		} else {
			out = append(out, c)
		}
	}
	return string(out)
}
