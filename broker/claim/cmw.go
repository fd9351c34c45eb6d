package claim

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"

	"github.com/zonebroker/zonebroker/verifier/reason"
)

// MediaType of an unsigned claims-set in JSON (RFC 9782).
const MediaType = "application/eat-ucs+json"

// indicator says that the record holds attestation results (bit 3 of the CMW
// indicator).
const indicator = 8

// maxCMW is the limit of the extension's value: base64url of the largest
// claims-set and its wrapping.
const maxCMW = maxClaims*4/3 + 256

// OID returns the object identifier of the extension, id-pe-cmw.
func OID() asn1.ObjectIdentifier {
	return asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 35}
}

// EncodeCMW wraps claims into the certificate extension id-pe-cmw: a DER
// UTF8String with the JSON array [media type, base64url, indicator]. It is
// never critical: a critical extension that a verifier does not know ends the
// handshake. Errors as of Encode.
func EncodeCMW(c Claims) (pkix.Extension, error) {
	raw, err := Encode(c)
	if err != nil {
		return pkix.Extension{}, err
	}
	value := cmwRecord(raw)
	if len(value) > maxCMW {
		return pkix.Extension{}, reason.New(reason.Internal, "")
	}
	return pkix.Extension{Id: OID(), Value: value}, nil
}

// What stands around the base64url in a CMW record. Neither it nor base64url has
// anything to escape.
const (
	recordHead = `["` + MediaType + `","`
	recordTail = `",8]` // indicator
)

// cmwRecord returns the CMW record of a claims-set as a UTF8String in DER (X.690,
// sections 8.1.3 and 8.23).
func cmwRecord(raw []byte) []byte {
	n := len(recordHead) + base64.RawURLEncoding.EncodedLen(len(raw)) + len(recordTail)
	out := append(make([]byte, 0, n+4), asn1.TagUTF8String)
	switch {
	case n < 1<<7:
		out = append(out, byte(n))
	case n < 1<<8:
		out = append(out, 0x81, byte(n))
	default: // maxClaims keeps it below 64 KiB
		out = append(out, 0x82, byte(n>>8), byte(n))
	}
	out = base64.RawURLEncoding.AppendEncode(append(out, recordHead...), raw)
	return append(out, recordTail...)
}

// ParseCMWInsecure reads the value of the extension. The result is unverified.
// Anything but the one encoding that EncodeCMW uses is auth.invalid: a second
// way to write the same record is a second thing to read.
func ParseCMWInsecure(value []byte) (Claims, error) {
	malformed := func(detail string, cause error) (Claims, error) {
		return Claims{}, reason.Wrap(reason.AuthInvalid, detail, cause)
	}
	if len(value) > maxCMW {
		return malformed("the zone claim is larger than its limit", nil)
	}
	var text string
	if _, err := asn1.UnmarshalWithParams(value, &text, "utf8"); err != nil {
		return malformed("the zone claim's extension is not one UTF8String", err)
	}
	// Unmarshal also takes other string types and stops at the first value;
	// encoding again tells.
	if again, err := asn1.MarshalWithParams(text, "utf8"); err != nil || !bytes.Equal(again, value) {
		return malformed("the zone claim's extension is not a UTF8String in DER", err)
	}
	encoded, err := parseRecord(text)
	if err != nil {
		return malformed("the zone claim's extension is not a CMW record of an unsigned claims-set", err)
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	if err != nil || strings.ContainsAny(encoded, "\r\n") {
		return malformed("the zone claim's extension is not unpadded base64url", err)
	}
	return ParseInsecure(raw)
}

// parseRecord returns the value of the CMW record. Encoding it again must give
// the text that came, which settles types, spaces, escapes and case at once.
func parseRecord(text string) (string, error) {
	var items []json.RawMessage
	if err := json.Unmarshal([]byte(text), &items); err != nil {
		return "", err
	}
	if len(items) != 3 {
		return "", errTrailing
	}
	var encoded string
	if err := json.Unmarshal(items[1], &encoded); err != nil {
		return "", err
	}
	again, err := json.Marshal([]any{MediaType, encoded, indicator})
	if err != nil {
		return "", err
	}
	if string(again) != text {
		return "", errDuplicate
	}
	return encoded, nil
}

// FromCertificateInsecure reads the claim of a certificate without verifying
// anything; for showing what a certificate says. It returns auth.invalid where
// there is no claim, more than one, or a critical one.
func FromCertificateInsecure(cert *x509.Certificate) (Claims, error) {
	if cert == nil {
		return Claims{}, reason.New(reason.AuthInvalid, "there is no certificate")
	}
	at := slices.IndexFunc(cert.Extensions, isCMW)
	switch {
	case at < 0:
		return Claims{}, reason.New(reason.AuthInvalid, "the certificate carries no zone claim")
	case slices.ContainsFunc(cert.Extensions[at+1:], isCMW):
		return Claims{}, reason.New(reason.AuthInvalid, "the certificate carries two zone claims")
	case cert.Extensions[at].Critical:
		return Claims{}, reason.New(reason.AuthInvalid, "the zone claim's extension is critical")
	}
	return ParseCMWInsecure(cert.Extensions[at].Value)
}

func isCMW(e pkix.Extension) bool { return e.Id.Equal(OID()) }
