package x509chain_test

import (
	"bytes"
	"errors"
	"testing"

	encoding_asn1 "encoding/asn1"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/zonebroker/zonebroker/verifier/x509chain"
)

// der writes one element around what f writes.
func der(tag asn1.Tag, f func(b *cryptobyte.Builder)) []byte {
	var b cryptobyte.Builder
	b.AddASN1(tag, f)
	return b.BytesOrPanic()
}

func joined(parts ...[]byte) func(b *cryptobyte.Builder) {
	return func(b *cryptobyte.Builder) { b.AddBytes(bytes.Join(parts, nil)) }
}

func sequence(parts ...[]byte) []byte { return der(asn1.SEQUENCE, joined(parts...)) }

func oid(arcs ...int) []byte {
	var b cryptobyte.Builder
	b.AddASN1ObjectIdentifier(encoding_asn1.ObjectIdentifier(arcs))
	return b.BytesOrPanic()
}

// bitString has no unused bits.
func bitString(content []byte) []byte {
	return der(asn1.BIT_STRING, joined([]byte{0}, content))
}

func integer(content ...byte) []byte { return der(asn1.INTEGER, joined(content)) }

// TestSubjectKeyIsStrict: an SPKI is read to its last byte, and every number in
// it is one.
func TestSubjectKeyIsStrict(t *testing.T) {
	rsaOID, ecOID, p256 := oid(1, 2, 840, 113549, 1, 1, 1), oid(1, 2, 840, 10045, 2, 1), oid(1, 2, 840, 10045, 3, 1, 7)
	modulus, exponent := integer(append([]byte{0}, bytes.Repeat([]byte{0xff}, 256)...)...), integer(1, 0, 1)
	key := func(parts ...[]byte) []byte { return sequence(sequence(rsaOID), bitString(sequence(parts...))) }
	if _, _, err := x509chain.SubjectKey(key(modulus, exponent)); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		raw  []byte
		want error
	}{
		"nothing":                  {nil, x509chain.ErrKeyEncoding},
		"a set":                    {der(asn1.SET, joined(sequence(rsaOID), bitString(sequence(modulus, exponent)))), x509chain.ErrKeyEncoding},
		"an algorithm in a set":    {sequence(der(asn1.SET, joined(rsaOID)), bitString(sequence(modulus, exponent))), x509chain.ErrKeyEncoding},
		"a key in octets":          {sequence(sequence(rsaOID), der(asn1.OCTET_STRING, joined([]byte{0}, sequence(modulus, exponent)))), x509chain.ErrKeyEncoding},
		"a number":                 {integer(1), x509chain.ErrKeyEncoding},
		"bytes behind":             {append(key(modulus, exponent), 0), x509chain.ErrKeyEncoding},
		"no algorithm":             {sequence(bitString(nil)), x509chain.ErrKeyEncoding},
		"algorithm without a name": {sequence(sequence(integer(1)), bitString(sequence(modulus, exponent))), x509chain.ErrKeyEncoding},
		"no key":                   {sequence(sequence(rsaOID)), x509chain.ErrKeyEncoding},
		"bytes behind the key":     {sequence(sequence(rsaOID), bitString(sequence(modulus, exponent)), integer(1)), x509chain.ErrKeyEncoding},
		"an empty bit string":      {sequence(sequence(rsaOID), der(asn1.BIT_STRING, joined())), x509chain.ErrKeyEncoding},
		"unused bits":              {sequence(sequence(rsaOID), der(asn1.BIT_STRING, joined([]byte{1}, sequence(modulus, exponent)))), x509chain.ErrKeyEncoding},
		"a modulus that is none":   {key(bitString(nil), exponent), x509chain.ErrKeyEncoding},
		"no exponent":              {key(modulus), x509chain.ErrKeyEncoding},
		"three numbers":            {key(modulus, exponent, exponent), x509chain.ErrKeyEncoding},
		"a modulus of 0":           {key(integer(0), exponent), x509chain.ErrKeyEncoding},
		"a modulus of -1":          {key(integer(0xff), exponent), x509chain.ErrKeyEncoding},
		"an exponent of 0":         {key(modulus, integer(0)), x509chain.ErrKeyEncoding},
		"an exponent of -1":        {key(modulus, integer(0xff)), x509chain.ErrKeyEncoding},
		"a curve without a name":   {sequence(sequence(ecOID), bitString(nil)), x509chain.ErrKeyType},
		"no point":                 {sequence(sequence(ecOID, p256), bitString([]byte{4})), x509chain.ErrKeyEncoding},
	} {
		t.Run(name, func(t *testing.T) {
			if k, spki, err := x509chain.SubjectKey(c.raw); !errors.Is(err, c.want) || k != nil || spki != nil {
				t.Errorf("%v, %v", k, err)
			}
		})
	}
}

// TestOversizedFindsTheKey, and no other number in its place: what does not lead
// to it is left to the strict parser. The limits are 4096 and 32 bits.
func TestOversizedFindsTheKey(t *testing.T) {
	number := func(n int) []byte { return integer(append([]byte{0}, bytes.Repeat([]byte{0xff}, n)...)...) }
	empty := sequence()
	build := func(modulus, exponent []byte) [][]byte {
		spki := sequence(sequence(oid(1, 2, 840, 113549, 1, 1, 1)), bitString(sequence(modulus, exponent)))
		version := der(asn1.Tag(0).ContextSpecific().Constructed(), joined(integer(2)))
		return [][]byte{version, integer(7), empty, empty, empty, empty, spki}
	}
	whole := func(parts [][]byte) []byte { return sequence(sequence(parts...)) }
	for name, c := range map[string]struct {
		modulus, exponent []byte
		want              bool
	}{
		"at both limits":  {number(512), number(4), false},
		"a longer number": {number(513), number(4), true},
		"an exponent":     {number(512), number(5), true},
		"zeros":           {integer(0), integer(0), false},
		"no number":       {empty, number(5), false},
		"one number":      {number(513), empty, false},
	} {
		if got := x509chain.Oversized(whole(build(c.modulus, c.exponent))); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	huge := build(number(1024), number(4))
	for i := 1; i < len(huge); i++ { // without the version it is one of version 1
		less := append(append([][]byte{}, huge[:i]...), huge[i+1:]...)
		if x509chain.Oversized(whole(less)) {
			t.Errorf("without field %d another one is taken for the key", i)
		}
	}
	for i := 1; i < 6; i++ {
		other := append([][]byte{}, huge...)
		if other[i] = integer(1); i == 1 {
			other[i] = empty
		}
		if x509chain.Oversized(whole(other)) {
			t.Errorf("field %d is of another kind, and a key was found behind it", i)
		}
	}
	set := func(parts ...[]byte) []byte { return der(asn1.SET, joined(parts...)) }
	algorithm, key := sequence(oid(1, 2, 840, 113549, 1, 1, 1)), sequence(number(1024), number(4))
	for name, raw := range map[string][]byte{
		"a set of a TBS":             set(sequence(huge...)),
		"a TBS that is a set":        sequence(set(huge...)),
		"an SPKI that is a set":      whole(append(huge[:6:6], set(algorithm, bitString(key)))),
		"an algorithm that is a set": whole(append(huge[:6:6], sequence(set(), bitString(key)))),
		"a key in octets":            whole(append(huge[:6:6], sequence(algorithm, der(asn1.OCTET_STRING, joined([]byte{0}, key))))),
		"a key that is a set":        whole(append(huge[:6:6], sequence(algorithm, bitString(set(number(1024), number(4)))))),
		"nothing":                    nil, "no sequence": integer(1), "no TBS": sequence(integer(1)),
		"an empty key":  whole(append(huge[:6:6], sequence(empty, der(asn1.BIT_STRING, joined())))),
		"unused bits":   whole(append(huge[:6:6], sequence(empty, der(asn1.BIT_STRING, joined([]byte{1}, sequence(number(1024), number(4))))))),
		"no algorithm":  whole(append(huge[:6:6], sequence(bitString(sequence(number(1024), number(4)))))),
		"no RSA in it":  whole(append(huge[:6:6], sequence(empty, bitString(number(1024))))),
		"no bit string": whole(append(huge[:6:6], sequence(empty, sequence(number(1024), number(4))))),
	} {
		if x509chain.Oversized(raw) {
			t.Errorf("%s: a key was found", name)
		}
	}
}

// TestUnwrapAtTheEdge: a run of another byte counts as fill from 16 on.
func TestUnwrapAtTheEdge(t *testing.T) {
	cert := sequence(integer(1))
	for name, c := range map[string]struct {
		raw  []byte
		good bool
	}{
		"15 bytes of 0x11":        {append(bytes.Clone(cert), bytes.Repeat([]byte{0x11}, 15)...), false},
		"16 bytes of 0x11":        {append(bytes.Clone(cert), bytes.Repeat([]byte{0x11}, 16)...), true},
		"one ff":                  {append(bytes.Clone(cert), 0xff), true},
		"nothing":                 {nil, false},
		"a header and no more":    {[]byte{0x10, 0x01, 0, 0, 0}, false},
		"a header before a tag":   {[]byte{0x10, 0x01, 0, 0, 2, 0x10, 0x02}, false},
		"four bytes of a header":  {[]byte{0x10, 0x01, 0, 0}, false},
		"sixteen bytes of a fill": {make([]byte, 16), false},
	} {
		if got, ok := x509chain.Unwrap(c.raw); ok != c.good || ok && !bytes.Equal(got, cert) {
			t.Errorf("%s: %x, %v", name, got, ok)
		}
	}
}
