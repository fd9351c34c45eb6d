package cca_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/verifier/cca"
	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/evidencetest"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

var challenge = bytes.Repeat([]byte{0xab}, 64)

type machine struct {
	*documenttest.CCAMachine
	trust cca.Trust
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newMachine(t testing.TB, curve elliptic.Curve) machine {
	t.Helper()
	m, err := documenttest.NewCCAMachine(curve)
	must(t, err)
	out := machine{CCAMachine: m}
	out.trust, err = cca.NewTrust(cca.Object{Name: "cca.platform/lab", Data: out.pem(t)})
	must(t, err)
	return out
}

func (m machine) pem(t testing.TB) []byte {
	t.Helper()
	b, err := m.PEM()
	must(t, err)
	return b
}

func (m machine) token(t testing.TB, f documenttest.CCAFields) []byte {
	t.Helper()
	raw, err := m.Token(f)
	must(t, err)
	return raw
}

// TestForms of a token that are all good.
func TestForms(t *testing.T) {
	for name, f := range map[string]documenttest.CCAFields{
		"messages in byte strings":     {},
		"with their content format":    {Wrapped: true},
		"as they stand":                {Bare: true},
		"as they stand, with a format": {Bare: true, Wrapped: true},
		"before profiles were named":   {Legacy: true},
		"legacy, wrapped":              {Legacy: true, Wrapped: true},
		"messages without tag 18":      {PlatformMessage: untagged, RealmMessage: untagged},
	} {
		for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384()} {
			m := newMachine(t, curve)
			f.Challenge = challenge
			if _, err := cca.Verify(m.token(t, f), challenge, m.trust); err != nil {
				t.Errorf("%s, %s: %v", name, curve.Params().Name, err)
			}
		}
	}
}

func untagged(m *documenttest.Sign1) { m.Tag = false }

// TestFacts: what zones, admission and history get of a realm.
func TestFacts(t *testing.T) {
	m := newMachine(t, elliptic.P384())
	token, err := cca.Verify(m.token(t, documenttest.CCAFields{Challenge: challenge}), challenge, m.trust)
	must(t, err)
	f := token.Facts()
	repeated := func(b byte) string { return hex.EncodeToString(bytes.Repeat([]byte{b}, 32)) }
	instance := "01" + repeated(0x42)
	want := []document.Selector{
		{Name: "cca.component.measurement", Value: repeated(0x61)},
		{Name: "cca.component.measurement", Value: repeated(0x63)},
		{Name: "cca.component.signer", Value: repeated(0x62)},
		{Name: "cca.component.signer", Value: repeated(0x64)},
		{Name: "cca.config", Value: "010203"},
		{Name: "cca.implementation_id", Value: repeated(0x60)},
		{Name: "cca.instance_id", Value: instance},
		{Name: "cca.lifecycle", Value: "3003"},
		{Name: "cca.profile", Value: "tag:arm.com,2023:cca_platform#1.0.0"},
		{Name: "cca.rem.0", Value: repeated(0x52)},
		{Name: "cca.rim", Value: repeated(0x51)},
		{Name: "cca.rpv", Value: repeated(0x50) + repeated(0x50)},
	}
	if !slices.Equal(f.Selectors, want) {
		t.Errorf("%v", f.Selectors)
	}
	owners := []document.Owner{{Kind: document.OwnerCCARealm, Value: repeated(0x51)}, {Kind: document.OwnerCCAInstance, Value: instance}}
	anchors := []document.Anchor{{Kind: document.AnchorReport, Value: repeated(0xab)}}
	if f.Class != document.ClassA || !f.NonceBound || !f.KeyBound || len(f.Hazards) != 0 || !slices.Equal(f.Owners, owners) || !slices.Equal(f.Anchors, anchors) || f.Machine != (document.Machine{}) {
		t.Errorf("%+v", f)
	}
	if hex.EncodeToString(token.InstanceID()) != instance || token.Lifecycle() != 0x3003 || hex.EncodeToString(token.Measurement()) != repeated(0x51) ||
		!bytes.Equal(token.Challenge(), challenge) || token.RealmKey().Curve != elliptic.P384() {
		t.Errorf("%+v", token)
	}
	token, err = cca.Verify(m.token(t, documenttest.CCAFields{Challenge: challenge}), nil, m.trust)
	must(t, err)
	if f := token.Facts(); f.Class != document.ClassC || f.NonceBound || f.KeyBound || f.Anchors != nil {
		t.Errorf("without a challenge: %+v", f)
	}
	unmeasured := documenttest.CCAFields{Realm: func(c map[any]any) { c[44238] = make([]byte, 32) }}
	token, err = cca.Verify(m.token(t, unmeasured), nil, m.trust)
	must(t, err)
	if f := token.Facts(); len(f.Owners) != 1 || f.Owners[0].Kind != document.OwnerCCAInstance {
		t.Errorf("a measurement of zeros admits: %v", f.Owners)
	}
}

// TestCatalogueTestKeys judges rows 32 and 33 of the catalogue of bad documents,
// and what is like them, under platform keys of its own.
func TestCatalogueTestKeys(t *testing.T) {
	m, other := newMachine(t, elliptic.P384()), newMachine(t, elliptic.P384())
	stranger, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	must(t, err)
	point, err := stranger.PublicKey.Bytes()
	must(t, err)
	type fields = documenttest.CCAFields
	set := func(key, value any) func(map[any]any) { return func(c map[any]any) { c[key] = value } }
	without := func(key any) func(map[any]any) { return func(c map[any]any) { delete(c, key) } }
	alg := func(n any) func(*documenttest.Sign1) {
		return func(s *documenttest.Sign1) { s.Protected = map[any]any{1: n} }
	}
	short := bytes.Repeat([]byte{1}, 31)
	for name, c := range map[string]struct {
		f     fields
		trust *cca.Trust
		edit  func([]byte) []byte
		want  reason.Code
	}{
		"good":                                     {want: ""},
		"row 32 realm unbound":                     {f: fields{Platform: set(10, make([]byte, 32))}, want: reason.CCABinding},
		"row 32 hash of another key":               {f: fields{PlatformBeforeHash: func([]byte) []byte { return []byte("x") }}, want: reason.CCABinding},
		"row 32 half of the hash":                  {f: fields{Platform: func(c map[any]any) { c[10] = append(c[10].([]byte), make([]byte, 32)...) }}, want: reason.CCABinding},
		"row 32 another hash named":                {f: fields{Realm: set(documenttest.CCAKeyHash, "sha-512")}, want: reason.CCABinding},
		"row 33 another platform's key":            {trust: &other.trust, want: reason.COSESignature},
		"row 33 no platform key":                   {trust: &cca.Trust{}, want: reason.CCAKeyUnknown},
		"row 01 platform signature flipped":        {f: fields{PlatformMessage: func(s *documenttest.Sign1) { s.Signature = make([]byte, 96) }}, want: reason.COSESignature},
		"row 01 realm signature flipped":           {edit: func(b []byte) []byte { b[len(b)-1] ^= 1; return b }, want: reason.COSESignature},
		"realm signed by another key":              {f: fields{RealmSigner: stranger}, want: reason.COSESignature},
		"row 03 platform algorithm ES512":          {f: fields{PlatformMessage: alg(-36)}, want: reason.COSEAlg},
		"row 03 realm algorithm EdDSA":             {f: fields{RealmMessage: alg(-8)}, want: reason.COSEAlg},
		"row 04 realm algorithm missing":           {f: fields{RealmMessage: func(s *documenttest.Sign1) { s.Protected = map[any]any{} }}, want: reason.COSEAlg},
		"row 06 critical header":                   {f: fields{RealmMessage: func(s *documenttest.Sign1) { s.Protected = map[any]any{1: -35, 2: []any{3}} }}, want: reason.COSECrit},
		"row 07 trailing byte":                     {edit: func(b []byte) []byte { return append(b, 0) }, want: reason.CBORTrailing},
		"row 08 truncated":                         {edit: func(b []byte) []byte { return b[:len(b)-1] }, want: reason.CBORTruncated},
		"row 09 another tag":                       {edit: func(b []byte) []byte { b[2]--; return b }, want: reason.COSETag},
		"row 09 no tag":                            {edit: func(b []byte) []byte { return b[3:] }, want: reason.COSETag},
		"row 09 tag 98 inside":                     {f: fields{Collection: wrapIn(0xd8, 98)}, want: reason.COSETag},
		"row 10 member twice":                      {edit: twice, want: reason.CBORDuplicateKey},
		"row 13 nested 200 deep":                   {edit: func([]byte) []byte { return bytes.Repeat([]byte{0x81}, 200) }, want: reason.CBORLimit},
		"row 14 array of 2^40":                     {edit: func([]byte) []byte { return []byte{0x9b, 0, 0, 1, 0, 0, 0, 0, 0} }, want: reason.CBORLimit},
		"larger than the limit":                    {edit: func([]byte) []byte { return make([]byte, cca.MaxDocument+1) }, want: reason.RequestTooLarge},
		"nothing":                                  {edit: func([]byte) []byte { return nil }, want: reason.CBORTruncated},
		"challenge of another":                     {f: fields{Challenge: make([]byte, 64)}, want: reason.CCANonceMismatch},
		"lifecycle before secured":                 {f: fields{Platform: set(documenttest.CCALifecycle, 0x2fff)}, want: reason.CCALifecycle},
		"lifecycle secured, first":                 {f: fields{Platform: set(documenttest.CCALifecycle, 0x3000)}, want: ""},
		"lifecycle secured, last":                  {f: fields{Platform: set(documenttest.CCALifecycle, 0x30ff)}, want: ""},
		"lifecycle behind secured":                 {f: fields{Platform: set(documenttest.CCALifecycle, 0x3100)}, want: reason.CCALifecycle},
		"lifecycle debug":                          {f: fields{Platform: set(documenttest.CCALifecycle, 0x4000)}, want: reason.CCALifecycle},
		"lifecycle, the last":                      {f: fields{Platform: set(documenttest.CCALifecycle, 0xffff)}, want: reason.CCALifecycle},
		"32 components":                            {f: fields{Platform: func(c map[any]any) { c[2399] = slices.Repeat(c[2399].([]any)[:1], 32) }}, want: ""},
		"realm key that says it is no EC2":         {f: fields{Realm: set(44237, documenttest.Encode(map[any]any{1: 1, -1: 2, -2: point[1:49], -3: point[49:]}))}, want: reason.CBORMalformed},
		"realm key that says it is of P-256":       {f: fields{Realm: set(44237, documenttest.Encode(map[any]any{1: 2, -1: 1, -2: point[1:49], -3: point[49:]}))}, want: reason.CBORMalformed},
		"realm key with a shifted coordinate":      {f: fields{Realm: set(44237, documenttest.Encode(map[any]any{1: 2, -1: 2, -2: point[1:48], -3: point[48:]}))}, want: reason.CBORMalformed},
		"lifecycle of 17 bits":                     {f: fields{Platform: set(documenttest.CCALifecycle, 0x13000)}, want: reason.CBORMalformed},
		"lifecycle below zero":                     {f: fields{Platform: set(documenttest.CCALifecycle, -1)}, want: reason.CBORMalformed},
		"no lifecycle":                             {f: fields{Platform: without(documenttest.CCALifecycle)}, want: reason.CBORMalformed},
		"no platform token":                        {f: fields{Collection: without(documenttest.CCAPlatform)}, want: reason.CBORMalformed},
		"no realm token":                           {f: fields{Collection: without(documenttest.CCARealm)}, want: reason.CBORMalformed},
		"a third token":                            {f: fields{Collection: set(1, []byte{1})}, want: reason.CBORMalformed},
		"another content format":                   {f: fields{Collection: set(documenttest.CCARealm, []any{60, []byte{1}})}, want: reason.CBORMalformed},
		"platform and realm swapped":               {f: fields{Collection: func(c map[any]any) { c[44234], c[44241] = c[44241], c[44234] }}, want: reason.CBORMalformed},
		"another platform profile":                 {f: fields{Platform: set(265, "tag:arm.com,2023:realm#1.0.0")}, want: reason.CBORMalformed},
		"no platform profile":                      {f: fields{Platform: without(265)}, want: reason.CBORMalformed},
		"platform profile in bytes":                {f: fields{Platform: set(265, []byte{1})}, want: reason.CBORMalformed},
		"another realm profile":                    {f: fields{Realm: set(265, "x")}, want: reason.CBORMalformed},
		"realm profile in bytes":                   {f: fields{Realm: set(265, []byte{1})}, want: reason.CBORMalformed},
		"no realm profile, and a COSE_Key":         {f: fields{Realm: without(265)}, want: reason.CBORMalformed},
		"instance id of 32 bytes":                  {f: fields{Platform: set(256, make([]byte, 32))}, want: reason.CBORMalformed},
		"instance id of another type":              {f: fields{Platform: set(256, make([]byte, 33))}, want: reason.CBORMalformed},
		"implementation id of 31 bytes":            {f: fields{Platform: set(2396, short)}, want: reason.CBORMalformed},
		"platform challenge of 31 bytes":           {f: fields{Platform: set(10, short)}, want: reason.CBORMalformed},
		"platform challenge of 65 bytes":           {f: fields{Platform: set(10, make([]byte, 65))}, want: reason.CBORMalformed},
		"config of 257 bytes":                      {f: fields{Platform: set(2401, make([]byte, 257))}, want: reason.CBORMalformed},
		"another platform hash":                    {f: fields{Platform: set(2402, "md5")}, want: reason.CBORMalformed},
		"platform hash as a number":                {f: fields{Platform: set(2402, 1)}, want: reason.CBORMalformed},
		"no components":                            {f: fields{Platform: set(2399, []any{})}, want: reason.CBORMalformed},
		"components in a map":                      {f: fields{Platform: set(2399, map[any]any{})}, want: reason.CBORMalformed},
		"33 components":                            {f: fields{Platform: func(c map[any]any) { c[2399] = slices.Repeat(c[2399].([]any)[:1], 33) }}, want: reason.CBORMalformed},
		"a component that is no map":               {f: fields{Platform: set(2399, []any{1})}, want: reason.CBORMalformed},
		"a component without a signer":             {f: fields{Platform: set(2399, []any{map[any]any{2: make([]byte, 32)}})}, want: reason.CBORMalformed},
		"realm challenge of 63 bytes":              {f: fields{Realm: set(10, make([]byte, 63))}, want: reason.CBORMalformed},
		"personalization of 63 bytes":              {f: fields{Realm: set(44235, make([]byte, 63))}, want: reason.CBORMalformed},
		"initial measurement of 31 bytes":          {f: fields{Realm: set(44238, short)}, want: reason.CBORMalformed},
		"three extensible measurements":            {f: fields{Realm: func(c map[any]any) { c[44239] = c[44239].([]any)[:3] }}, want: reason.CBORMalformed},
		"extensible measurement of another length": {f: fields{Realm: func(c map[any]any) { c[44239].([]any)[2] = make([]byte, 48) }}, want: reason.CBORMalformed},
		"extensible measurement in text":           {f: fields{Realm: func(c map[any]any) { c[44239].([]any)[2] = "x" }}, want: reason.CBORMalformed},
		"no extensible measurements":               {f: fields{Realm: without(44239)}, want: reason.CBORMalformed},
		"extensible measurements in a map":         {f: fields{Realm: set(44239, map[any]any{})}, want: reason.CBORMalformed},
		"no realm hash":                            {f: fields{Realm: without(44236)}, want: reason.CBORMalformed},
		"no hash of the realm's key":               {f: fields{Realm: without(44240)}, want: reason.CBORMalformed},
		"no realm key":                             {f: fields{Realm: without(44237)}, want: reason.CBORMalformed},
		"realm key of 257 bytes":                   {f: fields{Realm: set(44237, make([]byte, 257))}, want: reason.CBORMalformed},
		"realm key that is no point":               {f: fields{Realm: set(44237, documenttest.Encode(map[any]any{1: 2, -1: 2, -2: make([]byte, 48), -3: make([]byte, 48)}))}, want: reason.CBORMalformed},
		"realm key of P-256":                       {f: fields{RealmCurve: elliptic.P256()}, want: reason.CBORMalformed},
		"realm key of another type":                {f: fields{Realm: set(44237, documenttest.Encode(map[any]any{1: 1, -1: 2}))}, want: reason.CBORMalformed},
		"realm key on another curve":               {f: fields{Realm: set(44237, documenttest.Encode(map[any]any{1: 2, -1: 3}))}, want: reason.CBORMalformed},
		"realm key with a text coordinate":         {f: fields{Realm: set(44237, documenttest.Encode(map[any]any{1: 2, -1: 2, -2: "x"}))}, want: reason.CBORMalformed},
		"realm key and a byte":                     {f: fields{Realm: func(c map[any]any) { c[44237] = append(c[44237].([]byte), 0) }}, want: reason.CBORTrailing},
		"platform payload is no map":               {f: fields{PlatformMessage: func(s *documenttest.Sign1) { s.Payload = []byte{0x80} }}, want: reason.CBORMalformed},
		"realm payload is cut":                     {f: fields{RealmMessage: func(s *documenttest.Sign1) { s.Payload = s.Payload[:9] }}, want: reason.CBORTruncated},
	} {
		t.Run(name, func(t *testing.T) {
			if c.f.Challenge == nil {
				c.f.Challenge = challenge
			}
			raw, trust := m.token(t, c.f), m.trust
			if c.edit != nil {
				raw = c.edit(raw)
			}
			if c.trust != nil {
				trust = *c.trust
			}
			token, err := cca.Verify(raw, challenge, trust)
			got := reason.Of(err)
			if f := token.Facts(); err == nil && len(f.Hazards) > 0 {
				got = f.Hazards[0].Code
			}
			if got != c.want {
				t.Errorf("%q, want %q (%v)", got, c.want, err)
			}
		})
	}
	if _, err := cca.Verify(m.token(t, fields{Challenge: challenge}), append(bytes.Clone(challenge), 0), m.trust); reason.Of(err) != reason.CCANonceMismatch {
		t.Errorf("a challenge of 65 bytes: %v", err)
	}
	padded := append(bytes.Repeat([]byte{7}, 32), make([]byte, 32)...)
	if _, err := cca.Verify(m.token(t, fields{Challenge: padded}), padded[:32], m.trust); err != nil {
		t.Errorf("a challenge of 32 bytes: %v", err)
	}
}

// wrapIn puts bytes in front of the realm token.
func wrapIn(b ...byte) func(map[any]any) {
	return func(c map[any]any) { c[documenttest.CCARealm] = append(b, c[documenttest.CCARealm].([]byte)[1:]...) }
}

// twice writes the first member again behind the last.
func twice(b []byte) []byte {
	b[3]++
	return append(b, 0x19, 0xac, 0xca, 0x40)
}

// TestKeyOfInstance: a key under an instance's name is that machine's alone, and
// then no other key is tried.
func TestKeyOfInstance(t *testing.T) {
	m, other := newMachine(t, elliptic.P256()), newMachine(t, elliptic.P256())
	raw, id := m.token(t, documenttest.CCAFields{Challenge: challenge}), hex.EncodeToString(m.Instance)
	elsewhere := "01" + hex.EncodeToString(make([]byte, 32))
	for name, c := range map[string]struct {
		own, others string // names of the keys
		want        reason.Code
	}{
		"by its name":               {"cca.platform/" + id + ".pem", "cca.platform/x", ""},
		"by no name":                {"cca.platform/x", elsewhere, ""},
		"beside others of no name":  {"a", "b", ""},
		"by another's name":         {elsewhere, id, reason.COSESignature},
		"by a name of another only": {elsewhere, "01" + hex.EncodeToString(bytes.Repeat([]byte{1}, 32)), reason.CCAKeyUnknown},
		"by its name in capitals":   {strings.ToUpper(id), "x", ""},
		"by half of its name":       {id[:64], elsewhere, ""},
		"of no name, with its own":  {"x", id, reason.COSESignature},
	} {
		trust, err := cca.NewTrust(cca.Object{Name: c.others, Data: other.pem(t)}, cca.Object{Name: c.own, Data: m.pem(t)})
		must(t, err)
		if _, err := cca.Verify(raw, challenge, trust); reason.Of(err) != c.want || trust.Len() != 2 {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// TestNewTrust: what is no public key is refused and not passed over.
func TestNewTrust(t *testing.T) {
	m := newMachine(t, elliptic.P256())
	point, err := m.Key.PublicKey.Bytes()
	must(t, err)
	x, y := base64.RawURLEncoding.EncodeToString(point[1:33]), base64.RawURLEncoding.EncodeToString(point[33:])
	jwk := func(format string, args ...any) []byte { return fmt.Appendf(nil, format, args...) }
	for name, data := range map[string][]byte{
		"nothing":               nil,
		"text":                  []byte("key"),
		"two in one":            append(m.pem(t), m.pem(t)...),
		"more than 16 KiB":      append(m.pem(t), bytes.Repeat([]byte{'\n'}, 16<<10)...),
		"a key of P-521":        newPEM(t, elliptic.P521()),
		"a certificate":         bytes.ReplaceAll(m.pem(t), []byte("PUBLIC KEY"), []byte("CERTIFICATE")),
		"a private JWK":         jwk(`{"kty":"EC","crv":"P-256","x":%q,"y":%q,"d":"AA"}`, x, y),
		"a JWK of RSA":          jwk(`{"kty":"RSA","crv":"P-256","x":%q,"y":%q}`, x, y),
		"a JWK for encryption":  jwk(`{"kty":"EC","crv":"P-256","x":%q,"y":%q,"use":"enc"}`, x, y),
		"a JWK of P-521":        jwk(`{"kty":"EC","crv":"P-521","x":%q,"y":%q}`, x, y),
		"a JWK of other curve":  jwk(`{"kty":"EC","crv":"P-384","x":%q,"y":%q}`, x, y),
		"a JWK not on it":       jwk(`{"kty":"EC","crv":"P-256","x":%q,"y":%q}`, x, x),
		"a JWK shifted":         jwk(`{"kty":"EC","crv":"P-256","x":%q,"y":%q}`, base64.RawURLEncoding.EncodeToString(point[1:32]), base64.RawURLEncoding.EncodeToString(point[32:])),
		"a JWK in other base64": jwk(`{"kty":"EC","crv":"P-256","x":"+%s","y":%q}`, x[1:], y),
		"a JWK and more":        jwk(`{"kty":"EC","crv":"P-256","x":%q,"y":%q} {}`, x, y),
		"a JWK with a url":      jwk(`{"kty":"EC","crv":"P-256","x":%q,"y":%q,"jku":"x"}`, x, y),
		"a JWK for wrapping":    jwk(`{"kty":"EC","crv":"P-256","x":%q,"y":%q,"key_ops":["wrapKey"]}`, x, y),
		"a cut JWK":             jwk(`{"kty":"EC"`),
	} {
		if trust, err := cca.NewTrust(cca.Object{Name: "x", Data: data}); err == nil || trust.Len() != 0 {
			t.Errorf("%s: taken", name)
		}
	}
	for name, data := range map[string][]byte{
		"a JWK":             jwk(`{"kty":"EC","crv":"P-256","x":%q,"y":%q}`, x, y),
		"an exported JWK":   jwk(`{"crv":"P-256","ext":true,"key_ops":["verify"],"kty":"EC","x":%q,"y":%q}`, x, y),
		"a JWK after space": jwk(`  {"kty":"EC","crv":"P-256","x":%q,"y":%q}`, x, y),
	} {
		if trust, err := cca.NewTrust(cca.Object{Name: "x", Data: data}); err != nil || trust.Len() != 1 {
			t.Errorf("%s: %v", name, err)
		}
	}
	good := cca.Object{Name: "x", Data: jwk(`{"kty":"EC","crv":"P-256","x":%q,"y":%q,"kid":"k","alg":"ES256","use":"sig"}`, x, y)}
	trust, err := cca.NewTrust(good)
	must(t, err)
	if _, err := cca.Verify(m.token(t, documenttest.CCAFields{Challenge: challenge}), challenge, trust); err != nil {
		t.Error(err)
	}
	if _, err := cca.NewTrust(slices.Repeat([]cca.Object{good}, 17)...); err == nil {
		t.Error("17 keys of no name are taken")
	}
	if _, err := cca.NewTrust(slices.Repeat([]cca.Object{good}, 16)...); err != nil {
		t.Error(err)
	}
	good.Name = "01" + hex.EncodeToString(make([]byte, 32))
	if _, err := cca.NewTrust(good, good); err == nil {
		t.Error("two keys of one instance are taken")
	}
}

func newPEM(t *testing.T, curve elliptic.Curve) []byte {
	t.Helper()
	m, err := documenttest.NewCCAMachine(curve)
	must(t, err)
	b, err := m.PEM()
	must(t, err)
	return b
}

// FuzzVerify: no input panics, reserves what it claims, or is taken under a key
// that signed nothing.
func FuzzVerify(f *testing.F) {
	m, other := newMachine(f, elliptic.P256()), newMachine(f, elliptic.P256())
	for _, fields := range []documenttest.CCAFields{{}, {Legacy: true}, {Wrapped: true}, {Bare: true}} {
		f.Add(m.token(f, fields))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		evidencetest.Bounded(t, len(b), 600, func() {
			if _, err := cca.Verify(b, nil, other.trust); err == nil {
				t.Error("taken")
			}
		})
	})
}

// BenchmarkVerifyCCA measures a token with two signatures of P-384.
func BenchmarkVerifyCCA(b *testing.B) {
	m := newMachine(b, elliptic.P384())
	raw := m.token(b, documenttest.CCAFields{Challenge: challenge})
	b.ReportAllocs()
	b.SetBytes(int64(len(raw)))
	for b.Loop() {
		if _, err := cca.Verify(raw, challenge, m.trust); err != nil {
			b.Fatal(err)
		}
	}
}
