package pkcs7

import (
	"bytes"
	"encoding/base64"

	"github.com/zonebroker/zonebroker/verifier/reason"
)

// Decode takes a message out of the form in which it was sent: DER or BER as it
// is, base64 with or without line breaks (the metadata services of AWS and Azure
// answer so), or one PEM block of type PKCS7 or CMS without headers. Nothing but
// white space may stand around it. Errors: request.too_large, pkcs7.encoding.
func Decode(raw []byte) ([]byte, error) {
	if len(raw) > MaxText {
		return nil, reason.New(reason.RequestTooLarge, "the signed message is longer than 32 KiB")
	}
	if len(raw) > 0 && raw[0] == tagSequence {
		return raw, nil
	}
	text := bytes.TrimSpace(raw)
	if bytes.HasPrefix(text, []byte("-----")) {
		var ok bool
		if text, ok = inPEM(text); !ok {
			return nil, reason.New(reason.PKCS7Encoding, "not one PEM block of type PKCS7")
		}
	}
	// The decoder passes over line breaks, and Strict refuses bits behind the last
	// byte: one message has one spelling beside its line breaks.
	out := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	n, err := base64.StdEncoding.Strict().Decode(out, text)
	if err != nil || n == 0 {
		return nil, reason.New(reason.PKCS7Encoding, "neither DER, base64 nor PEM")
	}
	return out[:n], nil
}

func inPEM(text []byte) ([]byte, bool) {
	for _, kind := range []string{"PKCS7", "CMS"} {
		body, begins := bytes.CutPrefix(text, []byte("-----BEGIN "+kind+"-----"))
		if body, ends := bytes.CutSuffix(body, []byte("-----END "+kind+"-----")); begins && ends {
			return body, true
		}
	}
	return nil, false
}
