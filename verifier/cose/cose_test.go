package cose_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"testing"

	"github.com/zonebroker/zonebroker/verifier/cose"
	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/evidencetest"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

func newKey(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// TestDecodeIsStrict: one map, nothing beside or behind it, and no form that two
// decoders could read in two ways.
func TestDecodeIsStrict(t *testing.T) {
	nested := func(n int) []byte {
		return append(append([]byte{0xa1, 0x01}, bytes.Repeat([]byte{0x81}, n-1)...), 0x00)
	}
	array := func(n int) []byte { return append([]byte{0xa1, 0x01, 0x98, byte(n)}, make([]byte, n)...) }
	pairs := func(n int) []byte {
		b := []byte{0xb8, byte(n)}
		for i := range n {
			b = append(b, 0x18, byte(i+24), 0)
		}
		return b
	}
	items := func(arrays int) []byte { // an array of arrays of 60
		b := []byte{0xa1, 0x01, 0x98, byte(arrays)}
		for range arrays {
			b = append(append(b, 0x98, 60), make([]byte, 60)...)
		}
		return b
	}
	exactly := func(last int) []byte { // 979 items in 16 arrays, and one array more
		b := items(16)
		b[3]++
		return append(append(b, 0x98, byte(last)), make([]byte, last)...)
	}
	endless := func(n int) []byte {
		return append(append([]byte{0xa1, 0x01, 0x9f}, make([]byte, n)...), 0xff)
	}
	endlessMap := func(n int) []byte {
		b := []byte{0xbf}
		for i := range n {
			b = append(b, 0x18, byte(i+24), 0)
		}
		return append(b, 0xff)
	}
	for name, c := range map[string]struct {
		in   []byte
		want reason.Code
	}{
		"an empty map":                  {[]byte{0xa0}, ""},
		"an empty endless map":          {[]byte{0xbf, 0xff}, ""},
		"text, numbers, null":           {[]byte{0xa3, 0x61, 'a', 0x20, 0x01, 0xf6, 0x02, 0xf5}, ""},
		"eight deep":                    {nested(8), ""},
		"nine deep":                     {nested(9), reason.CBORLimit},
		"64 elements":                   {array(64), ""},
		"65 elements":                   {array(65), reason.CBORLimit},
		"64 endless elements":           {endless(64), ""},
		"65 endless elements":           {endless(65), reason.CBORLimit},
		"48 entries":                    {pairs(48), ""},
		"49 entries":                    {pairs(49), reason.CBORLimit},
		"48 endless entries":            {endlessMap(48), ""},
		"49 endless entries":            {endlessMap(49), reason.CBORLimit},
		"1000 items":                    {items(16), ""},
		"more than 1024 items":          {items(17), reason.CBORLimit},
		"1024 items":                    {exactly(44), ""},
		"1025 items":                    {exactly(45), reason.CBORLimit},
		"a negative key":                {[]byte{0xa1, 0x20, 0x00}, ""},
		"64 KiB":                        {append([]byte{0xa1, 0x01, 0x5a, 0, 0, 0xff, 0xf9}, make([]byte, 0xfff9)...), ""},
		"a simple value below false":    {[]byte{0xa1, 0x01, 0xf0}, reason.CBORMalformed},
		"an array of 2^40":              {[]byte{0xa1, 0x01, 0x9b, 0, 0, 1, 0, 0, 0, 0, 0}, reason.CBORLimit},
		"a map of 2^64-1":               {[]byte{0xbb, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, reason.CBORLimit},
		"a string of 2^64-1":            {[]byte{0xa1, 0x01, 0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, reason.CBORLimit},
		"text of 64 KiB and one":        {[]byte{0xa1, 0x01, 0x7a, 0, 1, 0, 1}, reason.CBORLimit},
		"text of 64 KiB that is absent": {[]byte{0xa1, 0x01, 0x7a, 0, 1, 0, 0}, reason.CBORTruncated},
		"nothing":                       {nil, reason.CBORTruncated},
		"half a pair":                   {[]byte{0xa1, 0x01}, reason.CBORTruncated},
		"half a head":                   {[]byte{0xa1, 0x01, 0x19, 0x01}, reason.CBORTruncated},
		"half a string":                 {[]byte{0xa1, 0x01, 0x42, 0x01}, reason.CBORTruncated},
		"an endless map without end":    {[]byte{0xbf, 0x01, 0x02}, reason.CBORTruncated},
		"a byte behind":                 {[]byte{0xa0, 0x00}, reason.CBORTrailing},
		"a key twice":                   {[]byte{0xa2, 0x01, 0x00, 0x01, 0x00}, reason.CBORDuplicateKey},
		"a key twice, written longer":   {[]byte{0xa2, 0x01, 0x00, 0x18, 0x01, 0x00}, reason.CBORDuplicateKey},
		"a key twice, further in":       {[]byte{0xa1, 0x01, 0xa2, 0x61, 'a', 0x00, 0x61, 'a', 0x00}, reason.CBORDuplicateKey},
		"a key twice, in an array":      {[]byte{0xa1, 0x01, 0x81, 0xa2, 0x05, 0x00, 0x05, 0x01}, reason.CBORDuplicateKey},
		"a break alone":                 {[]byte{0xff}, reason.CBORMalformed},
		"a break in a map of one":       {[]byte{0xa1, 0xff}, reason.CBORMalformed},
		"a break after a key":           {[]byte{0xbf, 0x01, 0xff}, reason.CBORMalformed},
		"a break for a value":           {[]byte{0xa1, 0x01, 0xff}, reason.CBORMalformed},
		"a string in parts":             {[]byte{0xa1, 0x01, 0x5f, 0x41, 0x00, 0xff}, reason.CBORMalformed},
		"text in parts":                 {[]byte{0xa1, 0x01, 0x7f, 0x61, 'a', 0xff}, reason.CBORMalformed},
		"an endless number":             {[]byte{0xa1, 0x01, 0x1f}, reason.CBORMalformed},
		"an endless tag":                {[]byte{0xa1, 0x01, 0xdf}, reason.CBORMalformed},
		"reserved information":          {[]byte{0xa1, 0x01, 0x1c}, reason.CBORMalformed},
		"a float":                       {[]byte{0xa1, 0x01, 0xf9, 0x3c, 0x00}, reason.CBORMalformed},
		"undefined":                     {[]byte{0xa1, 0x01, 0xf7}, reason.CBORMalformed},
		"a simple value of two bytes":   {[]byte{0xa1, 0x01, 0xf8, 0x20}, reason.CBORMalformed},
		"a tag":                         {[]byte{0xa1, 0x01, 0xc1, 0x00}, reason.CBORMalformed},
		"a map under a tag":             {[]byte{0xd8, 0x37, 0xa0}, reason.CBORMalformed},
		"bytes as a key":                {[]byte{0xa1, 0x41, 0x01, 0x00}, reason.CBORMalformed},
		"an array as a key":             {[]byte{0xa1, 0x81, 0x01, 0x00}, reason.CBORMalformed},
		"null as a key":                 {[]byte{0xa1, 0xf6, 0x00}, reason.CBORMalformed},
		"text that is not UTF-8":        {[]byte{0xa1, 0x01, 0x61, 0xff}, reason.CBORMalformed},
		"an array":                      {[]byte{0x80}, reason.CBORMalformed},
		"null":                          {[]byte{0xf6}, reason.CBORMalformed},
		"more than 64 KiB":              {make([]byte, cose.MaxSize+1), reason.RequestTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := cose.Decode(c.in)
			if reason.Of(err) != c.want || err == nil && m == nil || err != nil && m != nil {
				t.Errorf("%v, %v; want %q", m, err, c.want)
			}
		})
	}
}

// TestMapTells: an absent key, a null and a value of another type are three
// things.
func TestMapTells(t *testing.T) {
	m := cose.Map{"b": []byte{1}, "t": "x", "n": nil, "a": []any{}, "u": uint64(7), "i": int64(-7)}
	if b, err := m.Bytes("b"); err != nil || len(b) != 1 {
		t.Error(b, err)
	}
	if b, err := m.Bytes("n"); err != nil || b != nil {
		t.Error(b, err)
	}
	if s, err := m.Text("t"); err != nil || s != "x" {
		t.Error(s, err)
	}
	if a, err := m.Array("a"); err != nil || a == nil {
		t.Error(a, err)
	}
	if n, ok, err := m.Unsigned("u"); err != nil || !ok || n != 7 {
		t.Error(n, ok, err)
	}
	for _, key := range []any{"x", uint64(1)} {
		b, err1 := m.Bytes(key)
		s, err2 := m.Text(key)
		a, err3 := m.Array(key)
		_, ok, err4 := m.Unsigned(key)
		if b != nil || s != "" || a != nil || ok || err1 != nil || err2 != nil || err3 != nil || err4 != nil {
			t.Errorf("%v is there", key)
		}
	}
	var errs [4]error
	_, errs[0] = m.Bytes("t")
	_, errs[1] = m.Text("n")
	_, errs[2] = m.Array("b")
	_, _, errs[3] = m.Unsigned("i")
	for i, err := range errs {
		if reason.Of(err) != reason.CBORMalformed {
			t.Errorf("%d: %v", i, err)
		}
	}
}

// TestKeyAndAlgorithm: a message verifies under the key that made it, of the
// algorithm's own curve, and under nothing else.
func TestKeyAndAlgorithm(t *testing.T) {
	small, big := newKey(t, elliptic.P256()), newKey(t, elliptic.P384())
	for name, c := range map[string]struct {
		message documenttest.Sign1
		key     *ecdsa.PublicKey
		want    reason.Code
	}{
		"ES256":                {documenttest.Sign1{Key: small}, &small.PublicKey, ""},
		"ES384":                {documenttest.Sign1{Key: big}, &big.PublicKey, ""},
		"ES384, tagged":        {documenttest.Sign1{Key: big, Tag: true}, &big.PublicKey, ""},
		"another key":          {documenttest.Sign1{Key: big}, &newKey(t, elliptic.P384()).PublicKey, reason.COSESignature},
		"a key of ES256":       {documenttest.Sign1{Key: big}, &small.PublicKey, reason.COSESignature},
		"ES384 by P-256":       {documenttest.Sign1{Key: small, Protected: map[any]any{1: -35}}, &small.PublicKey, reason.COSESignature},
		"no key":               {documenttest.Sign1{Key: big}, nil, reason.COSESignature},
		"a signature of zeros": {documenttest.Sign1{Key: small, Signature: make([]byte, 64)}, &small.PublicKey, reason.COSESignature},
		"no signature":         {documenttest.Sign1{Key: small, Signature: []byte{}}, &small.PublicKey, reason.COSESignature},
	} {
		for _, size := range []int{0, 23, 24, 255, 256, 300} { // each form of the length in what is signed
			c.message.Payload = make([]byte, size)
			m, err := cose.Parse(c.message.Bytes(), cose.ES256, cose.ES384)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if err := m.Verify(c.key); reason.Of(err) != c.want {
				t.Errorf("%s, %d bytes: %v, want %q", name, size, err, c.want)
			}
			if len(m.Payload()) != size {
				t.Errorf("%s: %d bytes", name, len(m.Payload()))
			}
		}
	}
	if err := (cose.Claimed{}).Verify(&big.PublicKey); reason.Of(err) != reason.COSESignature {
		t.Errorf("the zero message: %v", err)
	}
	if _, err := cose.Parse(documenttest.Sign1{Key: small, Payload: []byte{0}}.Bytes(), cose.ES384); reason.Of(err) != reason.COSEAlg {
		t.Errorf("ES256 where ES384 is wanted: %v", err)
	}
	if m, err := cose.Parse(documenttest.Sign1{Key: big, Payload: []byte{0}}.Bytes(), cose.ES384); err != nil || m.Algorithm() != cose.ES384 {
		t.Errorf("%v, %v", m.Algorithm(), err)
	}
	if _, err := cose.Parse(documenttest.Sign1{Key: big, Payload: []byte{0}, Protected: map[any]any{1: -36}}.Bytes(), -36); reason.Of(err) != reason.COSEAlg {
		t.Errorf("an algorithm that is not known, allowed: %v", err)
	}
}

// TestShapes that are no message.
func TestShapes(t *testing.T) {
	for name, c := range map[string]struct {
		in   []byte
		want reason.Code
	}{
		"a header of no bytes":         {[]byte{0x84, 0x40, 0xa0, 0x40, 0x40}, reason.COSEAlg},
		"a header that is no map":      {[]byte{0x84, 0x41, 0x01, 0xa0, 0x40, 0x40}, reason.CBORMalformed},
		"a header and a byte":          {[]byte{0x84, 0x42, 0xa0, 0x00, 0xa0, 0x40, 0x40}, reason.CBORTrailing},
		"alg twice":                    {[]byte{0x84, 0x45, 0xa2, 0x01, 0x26, 0x01, 0x26, 0xa0, 0x40, 0x40}, reason.CBORDuplicateKey},
		"an unprotected label twice":   {[]byte{0x84, 0x43, 0xa1, 0x01, 0x26, 0xa2, 0x04, 0x00, 0x04, 0x00, 0x40, 0x40}, reason.CBORDuplicateKey},
		"an unprotected header array":  {[]byte{0x84, 0x43, 0xa1, 0x01, 0x26, 0x80, 0x40, 0x40}, reason.COSETag},
		"a header in text":             {[]byte{0x84, 0x60, 0xa0, 0x40, 0x40}, reason.COSETag},
		"a signature in text":          {[]byte{0x84, 0x43, 0xa1, 0x01, 0x26, 0xa0, 0x40, 0x60}, reason.COSETag},
		"a tagged header":              {[]byte{0x84, 0xd8, 0x37, 0x40, 0xa0, 0x40, 0x40}, reason.COSETag},
		"an endless array":             {[]byte{0x9f, 0x43, 0xa1, 0x01, 0x26, 0xa0, 0x40, 0x40, 0xff}, reason.COSETag},
		"tag 18 in a longer form":      {[]byte{0xd8, 0x12, 0x84, 0x43, 0xa1, 0x01, 0x26, 0xa0, 0x40, 0x40}, reason.COSETag},
		"tag 18 around a map":          {[]byte{0xd2, 0xa0}, reason.COSETag},
		"tag 17, MAC":                  {[]byte{0xd1, 0x84, 0x43, 0xa1, 0x01, 0x26, 0xa0, 0x40, 0x40}, reason.COSETag},
		"the self-described tag":       {[]byte{0xd9, 0xd9, 0xf7, 0x84, 0x43, 0xa1, 0x01, 0x26, 0xa0, 0x40, 0x40}, reason.COSETag},
		"an array of five":             {[]byte{0x85, 0x43, 0xa1, 0x01, 0x26, 0xa0, 0x40, 0x40, 0x40}, reason.COSETag},
		"critical, protected":          {[]byte{0x84, 0x46, 0xa2, 0x01, 0x26, 0x02, 0x81, 0x01, 0xa0, 0x40, 0x40}, reason.COSECrit},
		"critical, unprotected":        {[]byte{0x84, 0x43, 0xa1, 0x01, 0x26, 0xa1, 0x02, 0x81, 0x01, 0x40, 0x40}, reason.COSECrit},
		"alg, unprotected":             {[]byte{0x84, 0x43, 0xa1, 0x01, 0x26, 0xa1, 0x01, 0x26, 0x40, 0x40}, reason.COSEAlg},
		"alg above the signed numbers": {[]byte{0x84, 0x4b, 0xa1, 0x01, 0x3b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xa0, 0x40, 0x40}, reason.COSEAlg},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := cose.Parse(c.in, cose.ES256); reason.Of(err) != c.want {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

// TestContainers of messages keep what is inside as it stands.
func TestContainers(t *testing.T) {
	m, err := cose.Members([]byte{0xa2, 0x19, 0xac, 0xca, 0xd2, 0x80, 0x01, 0x41, 0x05})
	if err != nil || !bytes.Equal(m[44234], []byte{0xd2, 0x80}) || !bytes.Equal(m[1], []byte{0x41, 0x05}) {
		t.Error(m, err)
	}
	e, err := cose.Elements([]byte{0x82, 0x01, 0xd2, 0x80})
	if err != nil || len(e) != 2 || !bytes.Equal(e[1], []byte{0xd2, 0x80}) {
		t.Error(e, err)
	}
	for name, c := range map[string]struct {
		in   []byte
		want [3]reason.Code // of Members, Elements, String
	}{
		"nothing":        {nil, [3]reason.Code{reason.CBORTruncated, reason.CBORTruncated, reason.CBORTruncated}},
		"a byte behind":  {[]byte{0x40, 0x00}, [3]reason.Code{reason.CBORTrailing, reason.CBORTrailing, reason.CBORTrailing}},
		"a string":       {[]byte{0x41, 0x01}, [3]reason.Code{reason.CBORMalformed, reason.CBORMalformed, ""}},
		"text":           {[]byte{0x61, 'a'}, [3]reason.Code{reason.CBORMalformed, reason.CBORMalformed, reason.CBORMalformed}},
		"an array":       {[]byte{0x81, 0x01}, [3]reason.Code{reason.CBORMalformed, "", reason.CBORMalformed}},
		"a map":          {[]byte{0xa1, 0x01, 0x01}, [3]reason.Code{"", reason.CBORMalformed, reason.CBORMalformed}},
		"a key twice":    {[]byte{0xa2, 0x01, 0x01, 0x01, 0x01}, [3]reason.Code{reason.CBORDuplicateKey, reason.CBORMalformed, reason.CBORMalformed}},
		"a text key":     {[]byte{0xa1, 0x61, 'a', 0x01}, [3]reason.Code{reason.CBORMalformed, reason.CBORMalformed, reason.CBORMalformed}},
		"a negative key": {[]byte{0xa1, 0x20, 0x01}, [3]reason.Code{reason.CBORMalformed, reason.CBORMalformed, reason.CBORMalformed}},
	} {
		_, err1 := cose.Members(c.in)
		_, err2 := cose.Elements(c.in)
		_, err3 := cose.String(c.in)
		if got := [3]reason.Code{reason.Of(err1), reason.Of(err2), reason.Of(err3)}; got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// FuzzParse: no input panics, reserves what it claims, or verifies under a key
// that did not sign it.
func FuzzParse(f *testing.F) {
	key, other := newKey(f, elliptic.P256()), newKey(f, elliptic.P256())
	f.Add(documenttest.Sign1{Key: key, Payload: []byte{0xa1, 0x01, 0x02}}.Bytes())
	f.Add(documenttest.Sign1{Key: key, Tag: true, Protected: map[any]any{1: -7, 2: []any{1}}}.Bytes())
	f.Add([]byte{0x9b, 0, 0, 1, 0, 0, 0, 0, 0})
	f.Add(bytes.Repeat([]byte{0x81}, 200))
	f.Fuzz(func(t *testing.T, b []byte) {
		evidencetest.Bounded(t, len(b), 64, func() {
			m, err := cose.Parse(b, cose.ES256)
			if err == nil && m.Verify(&other.PublicKey) == nil {
				t.Error("verifies under a key that signed nothing")
			}
		})
	})
}

// FuzzDecode: what is decoded was within the limits, and nothing stood behind it.
func FuzzDecode(f *testing.F) {
	f.Add([]byte{0xa3, 0x61, 'a', 0x20, 0x01, 0xf6, 0x02, 0xf5})
	f.Add([]byte{0xbf, 0x01, 0x9f, 0x01, 0xff, 0xff})
	f.Add([]byte{0xa2, 0x01, 0x00, 0x18, 0x01, 0x00})
	f.Fuzz(func(t *testing.T, b []byte) {
		evidencetest.Bounded(t, len(b), 600, func() {
			m, err := cose.Decode(b)
			if err != nil {
				return
			}
			if len(m) > cose.MaxPairs || len(b) > cose.MaxSize {
				t.Errorf("%d entries from %d bytes", len(m), len(b))
			}
			if _, err := cose.Decode(append(b[:len(b):len(b)], 0)); reason.Of(err) != reason.CBORTrailing && reason.Of(err) != reason.RequestTooLarge {
				t.Errorf("with a byte behind: %v", err)
			}
		})
	})
}
