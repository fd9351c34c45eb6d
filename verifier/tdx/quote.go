package tdx

import (
	"bytes"
	"encoding/binary"

	"github.com/zonebroker/zonebroker/verifier/reason"
)

// Limits of what a stranger may send, in bytes.
const (
	// MaxQuote bounds a quote with the fill behind it: real ones have 5 KB, in
	// buffers of up to 8000.
	MaxQuote = 16 << 10
	// MaxEventLog bounds a CCEL with the fill behind it.
	MaxEventLog = 1 << 20
)

const (
	headerSize   = 48
	bodySize10   = 584 // TD report body of TDX 1.0
	bodySize15   = 648 // of TDX 1.5
	keySize      = 64  // x and y on P-256
	sigSize      = 64  // r and s
	reportSize   = 384 // SGX report body
	teeTDX       = 0x81
	keyECDSAP256 = 2
	bodyTD10     = 2 // body types of version 5
	bodyTD15     = 3
	certPEM      = 5 // certification data: chain of the PCK in PEM
	certReport   = 6 // certification data: report of the quoting enclave
)

// intelQE is the vendor id of Intel's quoting enclave,
// 939a7233-f79c-4ca9-940a-0db3957f0607.
var intelQE = []byte{0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9, 0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07}

// Claimed is a quote whose form is right and of which nothing is verified. It
// shares memory with the bytes that were parsed.
type Claimed struct {
	version   uint16
	signed    []byte // header and body, as the attestation key signed them
	body      body
	signature []byte // r ‖ s, big-endian
	key       []byte // x ‖ y, big-endian
	enclave   []byte // report of the quoting enclave
	enclaveBy []byte // r ‖ s by the PCK
	auth      []byte // hashed with the key into the enclave's report
	chain     []byte // PEM
	behind    []byte // the rest of the buffer, which nobody signed
}

// Parse reads a quote. Fields are little-endian. What stands behind the signature
// data is not read; Verify wants it to be fill of the buffer. Errors:
// request.too_large, tdx.header, tdx.malformed.
func Parse(raw []byte) (Claimed, error) {
	if len(raw) > MaxQuote {
		return Claimed{}, reason.Newf(reason.RequestTooLarge, "a quote of %d bytes, at most %d are read", len(raw), MaxQuote)
	}
	r := reader{rest: raw}
	header := r.take(headerSize)
	if r.short {
		return Claimed{}, reason.New(reason.TDXMalformed, "the quote ends inside its header")
	}
	var q Claimed
	if err := q.readHeader(header); err != nil {
		return Claimed{}, err
	}
	size, err := q.bodySize(&r)
	if err != nil {
		return Claimed{}, err
	}
	q.body = body(r.take(size))
	q.signed = raw[:len(raw)-len(r.rest)]
	q.readSignature(reader{rest: r.take(r.u32())}, &r)
	if r.short {
		return Claimed{}, reason.New(reason.TDXMalformed, "a length in the quote is not that of its field, or the quote ends early")
	}
	q.behind = r.rest
	return q, nil
}

// isFill reports whether all bytes are 0, or all are 0xFF, as buffers of drivers
// and flash leave them. Anything else would be a message that travels with a
// genuine quote into the records.
func isFill(b []byte) bool {
	return len(b) == 0 || (b[0] == 0 || b[0] == 0xff) && bytes.Count(b, b[:1]) == len(b)
}

func (q *Claimed) readHeader(header []byte) error {
	q.version = binary.LittleEndian.Uint16(header)
	key, tee := binary.LittleEndian.Uint16(header[2:]), binary.LittleEndian.Uint32(header[4:])
	switch {
	case q.version != 4 && q.version != 5:
		return reason.Newf(reason.TDXHeader, "quote version %d, expected 4 or 5", q.version)
	case tee != teeTDX:
		return reason.Newf(reason.TDXHeader, "TEE type 0x%x is not TDX (0x81)", tee)
	case key != keyECDSAP256:
		return reason.Newf(reason.TDXHeader, "attestation key type %d, expected 2 (ECDSA on P-256)", key)
	case !bytes.Equal(header[12:28], intelQE):
		return reason.Newf(reason.TDXHeader, "quoting enclave of vendor %x, expected Intel's", header[12:28])
	}
	return nil
}

// bodySize: version 5 names the type of its body, and that of SGX is not one of a
// TDX quote whatever the header says.
func (q *Claimed) bodySize(r *reader) (uint32, error) {
	if q.version == 4 {
		return bodySize10, nil
	}
	kind, size := r.u16(), r.u32()
	want := map[uint16]uint32{bodyTD10: bodySize10, bodyTD15: bodySize15}[kind]
	switch {
	case r.short:
		return 0, reason.New(reason.TDXMalformed, "the quote ends before its body")
	case want == 0:
		return 0, reason.Newf(reason.TDXHeader, "body type %d is not a TD report", kind)
	case size != want:
		return 0, reason.Newf(reason.TDXMalformed, "body of %d bytes, expected %d", size, want)
	}
	return size, nil
}

// readSignature reads the signature data, whose parts have to fill it exactly: two
// parsers must not find two certificates. A slip is noted in outer.
func (q *Claimed) readSignature(r reader, outer *reader) {
	q.signature, q.key = r.take(sigSize), r.take(keySize)
	kind := r.u16()
	data := reader{rest: r.take(r.u32())}
	q.enclave, q.enclaveBy = data.take(reportSize), data.take(sigSize)
	q.auth = data.take(uint32(data.u16()))
	inner := data.u16()
	q.chain = data.take(data.u32())
	if r.short || data.short || len(r.rest) != 0 || len(data.rest) != 0 || kind != certReport || inner != certPEM {
		outer.short = true
	}
}

// reader hands out little-endian fields and windows and never reads past the end:
// the first read that would sets short, and later ones return nothing.
type reader struct {
	rest  []byte
	short bool
}

func (r *reader) take(n uint32) []byte {
	if uint64(n) > uint64(len(r.rest)) {
		r.short, r.rest = true, nil
		return nil
	}
	out := r.rest[:n:n]
	r.rest = r.rest[n:]
	return out
}

func (r *reader) u16() uint16 {
	if b := r.take(2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

func (r *reader) u32() uint32 {
	if b := r.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}
