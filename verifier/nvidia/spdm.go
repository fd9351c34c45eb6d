package nvidia

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math/big"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/strictjson"
	"github.com/zonebroker/zonebroker/verifier/x509chain"
)

// Limits of what a stranger may send.
const (
	// MaxEvidence bounds evidence in bytes: a device has 12 KB of it.
	MaxEvidence = 256 << 10
	// MaxDevices is the number of GPUs and switches of the largest machine, and
	// some.
	MaxDevices = 16

	maxReport = 16 << 10 // request and response of one device
	maxPEM    = 16 << 10 // its chain
)

// The messages of SPDM 1.1: a request of 37 bytes with nonce and slot, the
// response with blocks, nonce, opaque data and signature.
const (
	spdmVersion    = 0x11
	spdmRequest    = 0xe0 // GET_MEASUREMENTS
	spdmResponse   = 0x60 // MEASUREMENTS
	requestSize    = 37
	nonceSize      = 32
	signatureSize  = 96
	dmtf           = 1
	signed         = 1    // param 1 of the request
	allIndexes     = 0xff // param 2 of the request
	maxMeasurement = 64   // bytes of one value
)

// Types of the opaque data, which the device signs.
const (
	opaqueDriver = 3
	opaqueVBIOS  = 6
	opaqueFWID   = 20
)

// item is one device of the evidence files of NVIDIA's tools. All but the
// certificates and the report is for people and read nowhere here.
type item struct {
	Arch        string `json:"arch"`
	Certificate string `json:"certificate"` // base64 of PEM, leaf first
	Evidence    string `json:"evidence"`    // base64 of request ‖ response
	Nonce       string `json:"nonce"`
	Driver      string `json:"driver_version"`
	VBIOS       string `json:"vbios_version"`
	Version     string `json:"version"`
}

// report is a parsed report with its chain; nothing of it is verified.
type report struct {
	raw          []byte
	nonce        []byte // of the request
	measurements map[int][]byte
	driver       string
	vbios        string
	fwid         []byte // nil for none
	chain        []*x509.Certificate
}

const notEvidence = "the evidence is not a list of devices with base64 of a certificate chain and of a report"

func parseReports(raw []byte) ([]report, error) {
	var items []item
	if err := strictjson.UnmarshalKnown(raw, &items); err != nil {
		return nil, reason.Wrap(reason.NvidiaMalformed, notEvidence, err)
	}
	if len(items) == 0 || len(items) > MaxDevices {
		return nil, reason.Newf(reason.NvidiaMalformed, "evidence of %d devices, expected 1 to %d", len(items), MaxDevices)
	}
	out := make([]report, len(items))
	for i := range items {
		chain, err1 := base64.StdEncoding.Strict().DecodeString(items[i].Certificate)
		messages, err2 := base64.StdEncoding.Strict().DecodeString(items[i].Evidence)
		if err1 != nil || err2 != nil || len(chain) > maxPEM || len(messages) > maxReport {
			return nil, reason.New(reason.NvidiaMalformed, notEvidence)
		}
		var ok bool
		if out[i].chain, ok = x509chain.ParsePEM(chain, maxCerts); !ok {
			return nil, reason.Newf(reason.NvidiaMalformed, "device %d: the certificates are not up to %d in PEM", i, maxCerts)
		}
		if err := out[i].parse(messages); err != nil {
			return nil, reason.Newf(reason.NvidiaMalformed, "device %d: %s", i, err)
		}
	}
	return out, nil
}

// parse reads request and response. Every length has to be that of its part, so
// that the signature is the last 96 bytes and covers all others.
func (r *report) parse(raw []byte) error {
	b := reader{rest: raw}
	request := b.take(requestSize)
	response := b.take(8)
	if b.short {
		return fmt.Errorf("the report ends inside its header")
	}
	if request[0] != spdmVersion || request[1] != spdmRequest || request[2]&signed == 0 || request[3] != allIndexes {
		return fmt.Errorf("the request does not ask for all measurements, signed, in SPDM 1.1")
	}
	if response[0] != spdmVersion || response[1] != spdmResponse {
		return fmt.Errorf("the response is not MEASUREMENTS in SPDM 1.1")
	}
	r.raw, r.nonce = raw, request[4:4+nonceSize]
	size := int(response[5]) | int(response[6])<<8 | int(response[7])<<16
	blocks := b.take(size)
	b.take(nonceSize) // of the device
	opaque := b.take(b.u16())
	b.take(signatureSize)
	if b.short || len(b.rest) > 0 {
		return fmt.Errorf("a length in the report is not that of its part")
	}
	if err := r.readMeasurements(blocks, int(response[4])); err != nil {
		return err
	}
	return r.readOpaque(opaque)
}

func (r *report) readMeasurements(blocks []byte, count int) error {
	r.measurements = make(map[int][]byte, count)
	b := reader{rest: blocks}
	for range count {
		head := b.take(2)
		inner := reader{rest: b.take(b.u16())}
		inner.take(1) // what is measured, and whether as digest
		value := inner.take(inner.u16())
		switch {
		case b.short || inner.short || len(inner.rest) > 0 || len(value) > maxMeasurement:
			return fmt.Errorf("a measurement has an impossible length")
		case head[1] != dmtf:
			return fmt.Errorf("measurement %d is not in the form of DMTF", head[0])
		case r.measurements[int(head[0])] != nil || len(value) == 0:
			return fmt.Errorf("measurement %d stands twice or is empty", head[0])
		}
		r.measurements[int(head[0])] = value
	}
	if len(b.rest) > 0 || count == 0 {
		return fmt.Errorf("the measurements do not fill their record")
	}
	return nil
}

// readOpaque reads type, length and value, each type once.
func (r *report) readOpaque(opaque []byte) error {
	b := reader{rest: opaque}
	var seen [256]bool
	for len(b.rest) > 0 {
		kind, value := b.u16(), b.take(b.u16())
		if b.short || kind > 255 || seen[kind] {
			return fmt.Errorf("the opaque data does not parse, or has a type twice")
		}
		seen[kind] = true
		switch kind {
		case opaqueDriver:
			r.driver = string(bytes.TrimRight(value, "\x00"))
		case opaqueVBIOS:
			r.vbios = vbiosVersion(value)
		case opaqueFWID:
			r.fwid = value
		}
	}
	if !printable(r.driver) { // that of the VBIOS was written here
		return fmt.Errorf("the version of the driver is not printable")
	}
	return nil
}

// vbiosVersion writes a version as NVIDIA's tools do: 32 bits little-endian and a
// byte behind them, as in 96.00.A5.00.01. The rest is zero.
func vbiosVersion(b []byte) string {
	if len(b) != 8 || b[5]|b[6]|b[7] != 0 {
		return ""
	}
	return fmt.Sprintf("%02X.%02X.%02X.%02X.%02X", b[3], b[2], b[1], b[0], b[4])
}

func printable(s string) bool {
	return len(s) <= 64 && strings.IndexFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }) < 0
}

// verify asks whether the leaf of the chain signed both messages: ECDSA on P-384,
// r ‖ s, over SHA-384 of all but the signature.
func (r *report) verify() bool {
	key, ok := r.chain[0].PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P384() {
		return false
	}
	message, sig := r.raw[:len(r.raw)-signatureSize], r.raw[len(r.raw)-signatureSize:]
	digest := sha512.Sum384(message)
	var der cryptobyte.Builder
	der.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1BigInt(new(big.Int).SetBytes(sig[:signatureSize/2]))
		b.AddASN1BigInt(new(big.Int).SetBytes(sig[signatureSize/2:]))
	})
	encoded, err := der.Bytes()
	return err == nil && ecdsa.VerifyASN1(key, digest[:], encoded)
}

// reader hands out little-endian fields and windows and never reads past the end:
// the first read that would sets short, and later ones return nothing.
type reader struct {
	rest  []byte
	short bool
}

func (r *reader) take(n int) []byte {
	if n > len(r.rest) {
		r.short, r.rest = true, nil
		return nil
	}
	out := r.rest[:n:n]
	r.rest = r.rest[n:]
	return out
}

func (r *reader) u16() int {
	if b := r.take(2); b != nil {
		return int(binary.LittleEndian.Uint16(b))
	}
	return 0
}
