package pkcs7

import "github.com/zonebroker/zonebroker/verifier/reason"

// Identifier octets that this file looks at (X.690, 8.1.2 and 8.14).
const (
	tagSequence          = 0x30
	tagOctetString       = 0x04
	tagConstructedOctets = 0x24
	constructed          = 0x20
	highTag              = 0x1f
	indefinite           = 0x80
)

// maxDepth bounds the nesting of a message: a certificate in it reaches twelve.
const maxDepth = 24

// toDER writes a message with lengths of the indefinite form and octet strings in
// pieces, as Java's CMS libraries and so AWS write it, in definite lengths and
// whole strings. Everything else of BER is refused: lengths with leading zeros,
// tags above 30, other strings in pieces. What is DER already comes out the same.
//
// The signed attributes keep their order: a signer signs them as DER, and in
// another order the signature does not verify.
func toDER(in []byte) ([]byte, error) {
	out, rest, ok := element(nil, in, 0)
	if !ok {
		return nil, reason.New(reason.PKCS7Encoding, "neither DER nor BER with indefinite lengths")
	}
	if len(rest) > 0 {
		return nil, reason.New(reason.PKCS7Encoding, "bytes behind the message")
	}
	return out, nil
}

// element appends the DER of the first element of in to out and returns what
// stands behind it in in.
func element(out, in []byte, depth int) (_, rest []byte, ok bool) {
	tag, n, body, ok := header(in)
	if !ok || depth == maxDepth {
		return nil, nil, false
	}
	open := n == indefinite
	if !open {
		body, rest = body[:n-lengthBias], body[n-lengthBias:]
	}
	if tag&constructed == 0 {
		return append(appendHeader(out, tag, len(body)), body...), rest, !open
	}
	var content []byte
	for {
		if !open && len(body) == 0 {
			break
		}
		if open && len(body) >= 2 && body[0] == 0 && body[1] == 0 { // end of contents
			rest = body[2:]
			break
		}
		if tag == tagConstructedOctets {
			content, body, ok = piece(content, body)
		} else {
			content, body, ok = element(content, body, depth+1)
		}
		if !ok {
			return nil, nil, false
		}
	}
	if tag == tagConstructedOctets {
		tag = tagOctetString
	}
	return append(appendHeader(out, tag, len(content)), content...), rest, true
}

// piece appends one piece of an octet string; pieces of pieces are none.
func piece(content, in []byte) (_, rest []byte, ok bool) {
	tag, n, body, ok := header(in)
	if !ok || tag != tagOctetString || n == indefinite {
		return nil, nil, false
	}
	n -= lengthBias
	return append(content, body[:n]...), body[n:], true
}

// lengthBias keeps the lengths that header returns apart from its mark for the
// indefinite form.
const lengthBias = indefinite + 1

// header reads identifier and length. n is indefinite, or the length plus
// lengthBias, and then body holds at least that many bytes.
func header(in []byte) (tag byte, n int, body []byte, ok bool) {
	if len(in) < 2 || in[0]&highTag == highTag || in[0] == 0 {
		return 0, 0, nil, false
	}
	tag, first, body := in[0], in[1], in[2:]
	switch {
	case first == indefinite:
		return tag, indefinite, body, true
	case first < indefinite:
		n = int(first)
	case first == 0x81 && len(body) >= 1 && body[0] >= 0x80:
		n, body = int(body[0]), body[1:]
	case first == 0x82 && len(body) >= 2 && body[0] > 0: // MaxText is below three bytes
		n, body = int(body[0])<<8|int(body[1]), body[2:]
	default:
		return 0, 0, nil, false
	}
	return tag, n + lengthBias, body, n <= len(body)
}

func appendHeader(out []byte, tag byte, n int) []byte {
	switch {
	case n < 0x80:
		return append(out, tag, byte(n))
	case n < 0x100:
		return append(out, tag, 0x81, byte(n))
	}
	return append(out, tag, 0x82, byte(n>>8), byte(n))
}
