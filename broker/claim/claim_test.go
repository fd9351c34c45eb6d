package claim_test

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zonebroker/zonebroker/broker/claim"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

func TestWireForm(t *testing.T) {
	raw, err := claim.Encode(good())
	if err != nil {
		t.Fatal(err)
	}
	want := `{"ear_status":"affirming","ear_verifier_id":{"build":"zonebroker 0.1.0","developer":"https://zonebroker.example"},` +
		`"eat_profile":"tag:ietf.org,2026:rats/ear#03","exp":1795266000,"iat":1795262400,` +
		`"submods":{"tpm":{"ear_appraisal_policy_ids":["urn:zonebroker:policy:payments:41:sha256:` + strings.Repeat("0c", 32) + `"],` +
		`"ear_status":"affirming","ear_trustworthiness_vector":{"configuration":2,"executables":2,"hardware":2,"instance-identity":2}}},` +
		`"trust_zone":{"attestation_id":"0197b3c2-0000-7000-8000-000000000001","attested_at":1795262399,"break_glass":false,"epoch":1,` +
		`"evidence":"sha256:` + strings.Repeat("0e", 32) + `","exceptions":[],"fresh_until":1795262700,"key":"tpm","name":"payments",` +
		`"node":"` + node + `","policy":{"hash":"sha256:` + strings.Repeat("0c", 32) + `","mode":"enforce","version":41},"tier":2}}`
	if string(raw) != want {
		t.Errorf("got  %s\nwant %s", raw, want)
	}
	ext := encode(t, good())
	if ext.Critical || !ext.Id.Equal(asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 35}) {
		t.Errorf("extension %v, critical %v", ext.Id, ext.Critical)
	}
	record := `["application/eat-ucs+json","` + base64.RawURLEncoding.EncodeToString(raw) + `",8]`
	if ext.Value[0] != asn1.TagUTF8String || !strings.HasSuffix(string(ext.Value), record) {
		t.Errorf("value = %q", ext.Value)
	}
	t.Logf("claims-set %d bytes, extension %d bytes", len(raw), len(ext.Value))
	back, err := claim.ParseCMWInsecure(ext.Value)
	if diff := cmp.Diff(good(), back); err != nil || diff != "" {
		t.Errorf("round trip: %v\n%s", err, diff)
	}
}

func TestMeasuredSaysOnlyWhatWasProved(t *testing.T) {
	for _, r := range []struct {
		in     claim.Measured
		vector claim.Vector
		status claim.Status
	}{
		{claim.Measured{}, claim.Vector{InstanceIdentity: 2}, claim.StatusAffirming},
		{claim.Measured{SecureBoot: "unknown", Genuine: true}, claim.Vector{InstanceIdentity: 2, Hardware: 2}, claim.StatusAffirming},
		{claim.Measured{SecureBoot: "off", References: true}, claim.Vector{InstanceIdentity: 2, Configuration: 32, Executables: 2}, claim.StatusWarning},
	} {
		s := r.in.Submod()
		if s.Vector != r.vector || s.Status != r.status {
			t.Errorf("%+v: %+v", r.in, s)
		}
	}
	if s := (claim.Vector{Executables: 96, Hardware: 32}).Status(); s != claim.StatusContraindicated {
		t.Errorf("worst claim does not bound the status: %s", s)
	}
}

// claims returns the good claims-set as a tree for one edit.
func claims(t testing.TB, edit func(top, zone, tpm map[string]any)) string {
	t.Helper()
	raw, err := claim.Encode(good())
	if err != nil {
		t.Fatal(err)
	}
	var top map[string]any
	dec := json.NewDecoder(strings.NewReader(string(raw)))
	dec.UseNumber()
	if err := dec.Decode(&top); err != nil {
		t.Fatal(err)
	}
	edit(top, top["trust_zone"].(map[string]any), top["submods"].(map[string]any)["tpm"].(map[string]any))
	out, err := json.Marshal(top)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func TestParseRefuses(t *testing.T) {
	type m = map[string]any
	plain := claims(t, func(_, _, _ m) {})
	rows := map[string]string{
		"empty":                  "",
		"not an object":          "[]",
		"trailing bytes":         plain + " {}",
		"trailing garbage":       plain + "}",
		"not UTF-8":              strings.Replace(plain, "zonebroker 0.1.0", "zonebroker \xff", 1),
		"duplicate member":       strings.Replace(plain, `"iat":`, `"iat":1,"iat":`, 1),
		"duplicate inside":       strings.Replace(plain, `"tier":2`, `"tier":2,"tier":4`, 1),
		"duplicate unknown":      strings.Replace(plain, `"iat":`, `"x":1,"x":1,"iat":`, 1),
		"other case":             strings.Replace(plain, `"trust_zone"`, `"Trust_Zone"`, 1),
		"case beside the right":  strings.Replace(plain, `"tier":2`, `"tier":2,"Tier":4`, 1),
		"too deep":               strings.Replace(plain, `"iat":`, `"x":`+strings.Repeat("[", 20)+strings.Repeat("]", 20)+`,"iat":`, 1),
		"too large":              strings.Replace(plain, `"iat":`, `"x":"`+strings.Repeat("x", 16<<10)+`","iat":`, 1),
		"other profile":          claims(t, func(top, _, _ m) { top["eat_profile"] = "tag:github.com,2023:veraison/ear" }),
		"no profile":             claims(t, func(top, _, _ m) { delete(top, "eat_profile") }),
		"no verifier":            claims(t, func(top, _, _ m) { delete(top, "ear_verifier_id") }),
		"verifier without build": claims(t, func(top, _, _ m) { delete(top["ear_verifier_id"].(m), "build") }),
		"unknown status":         claims(t, func(top, _, _ m) { top["ear_status"] = "good" }),
		"status above submod":    claims(t, func(top, _, tpm m) { tpm["ear_status"] = "warning" }),
		"status above vector":    claims(t, func(top, _, tpm m) { tpm["ear_trustworthiness_vector"].(m)["hardware"] = 97 }),
		"trust claim as text":    claims(t, func(_, _, tpm m) { tpm["ear_trustworthiness_vector"].(m)["hardware"] = "2" }),
		"trust claim too bad": claims(t, func(top, _, tpm m) {
			top["ear_status"], tpm["ear_status"] = "contraindicated", "contraindicated"
			tpm["ear_trustworthiness_vector"].(m)["hardware"] = 128
		}),
		"version beyond 2^53":    strings.Replace(plain, `"version":41`, `"version":9007199254740992`, 1),
		"trust claim of 9 bits":  claims(t, func(top, _, tpm m) { tpm["ear_trustworthiness_vector"].(m)["hardware"] = 258 }),
		"submod without vector":  claims(t, func(top, _, tpm m) { delete(tpm, "ear_trustworthiness_vector") }),
		"submod of another type": claims(t, func(top, _, _ m) { top["submods"].(m)["ima"] = "ok" }),
		"policy ids no list":     claims(t, func(top, _, tpm m) { tpm["ear_appraisal_policy_ids"] = "x" }),
		"policy id no text":      claims(t, func(top, _, tpm m) { tpm["ear_appraisal_policy_ids"] = []any{1} }),
		"no submods":             claims(t, func(top, _, _ m) { top["submods"] = m{} }),
		"nine submods": claims(t, func(top, _, tpm m) {
			for _, name := range strings.Split("abcdefgh", "") {
				top["submods"].(m)[name] = tpm
			}
		}),
		"iat as text":           claims(t, func(top, _, _ m) { top["iat"] = "1795262400" }),
		"iat as fraction":       strings.Replace(plain, `"iat":1795262400`, `"iat":1795262400.0`, 1),
		"iat as exponent":       strings.Replace(plain, `"iat":1795262400`, `"iat":17952624e2`, 1),
		"iat beyond 2^53":       strings.Replace(plain, `"iat":1795262400`, `"iat":9007199254740992`, 1),
		"iat zero":              claims(t, func(top, _, _ m) { top["iat"] = 0 }),
		"exp before iat":        claims(t, func(top, _, _ m) { top["exp"] = 1795262400 }),
		"exp null":              claims(t, func(top, _, _ m) { top["exp"] = nil }),
		"no zone":               claims(t, func(top, _, _ m) { delete(top, "trust_zone") }),
		"unknown zone member":   claims(t, func(_, zone, _ m) { zone["region"] = "eu" }),
		"unknown policy member": claims(t, func(_, zone, _ m) { zone["policy"].(m)["x"] = 1 }),
		"T49_zone ../":          claims(t, func(_, zone, _ m) { zone["name"] = "../admin" }),
		"T49_zone %2f":          claims(t, func(_, zone, _ m) { zone["name"] = "a%2fb" }),
		"T49_zone unicode":      claims(t, func(_, zone, _ m) { zone["name"] = "pаyments" }),
		"T49_zone empty":        claims(t, func(_, zone, _ m) { zone["name"] = "" }),
		"T49_zone dots":         claims(t, func(_, zone, _ m) { zone["name"] = ".." }),
		"T49_node":              claims(t, func(_, zone, _ m) { zone["node"] = "node/a" }),
		"tier 5":                claims(t, func(_, zone, _ m) { zone["tier"] = 5 }),
		"tier negative":         claims(t, func(_, zone, _ m) { zone["tier"] = -1 }),
		"tier missing":          claims(t, func(_, zone, _ m) { delete(zone, "tier") }),
		"epoch 0":               claims(t, func(_, zone, _ m) { zone["epoch"] = 0 }),
		"attestation no UUID":   claims(t, func(_, zone, _ m) { zone["attestation_id"] = "1" }),
		"attestation braces":    claims(t, func(_, zone, _ m) { zone["attestation_id"] = "{0197b3c2-0000-7000-8000-000000000001}" }),
		"attested_at 0":         claims(t, func(_, zone, _ m) { zone["attested_at"] = 0 }),
		"fresh before":          claims(t, func(_, zone, _ m) { zone["fresh_until"] = zone["attested_at"] }),
		"evidence short":        claims(t, func(_, zone, _ m) { zone["evidence"] = "sha256:0e" }),
		"evidence capitals":     claims(t, func(_, zone, _ m) { zone["evidence"] = "sha256:" + strings.Repeat("0E", 32) }),
		"evidence other hash":   claims(t, func(_, zone, _ m) { zone["evidence"] = "sha512:" + strings.Repeat("0e", 32) }),
		"policy version 0":      claims(t, func(_, zone, _ m) { zone["policy"].(m)["version"] = 0 }),
		"policy mode":           claims(t, func(_, zone, _ m) { zone["policy"].(m)["mode"] = "off" }),
		"policy hash":           claims(t, func(_, zone, _ m) { zone["policy"].(m)["hash"] = "" }),
		"exceptions null":       claims(t, func(_, zone, _ m) { zone["exceptions"] = nil }),
		"exceptions empty text": claims(t, func(_, zone, _ m) { zone["exceptions"] = []any{""} }),
		"exceptions 17":         claims(t, func(_, zone, _ m) { zone["exceptions"] = strings.Split(strings.Repeat("x", 17), "") }),
		"break_glass text":      claims(t, func(_, zone, _ m) { zone["break_glass"] = "false" }),
		"break_glass missing":   claims(t, func(_, zone, _ m) { delete(zone, "break_glass") }),
		"key elsewhere":         claims(t, func(_, zone, _ m) { zone["key"] = "hsm" }),
	}
	for name, raw := range rows {
		t.Run(name, func(t *testing.T) {
			if raw == plain {
				t.Fatal("the row changes nothing")
			}
			if c, err := claim.ParseInsecure([]byte(raw)); reason.Of(err) != reason.AuthInvalid {
				t.Errorf("err = %v, claims %+v", err, c)
			}
		})
	}
	if _, err := claim.ParseInsecure([]byte(plain)); err != nil {
		t.Errorf("unchanged: %v", err)
	}
}

// EAR demands that receivers ignore what they do not know, and a newer broker
// may say more about an attester.
func TestUnknownMembersOfEARAreIgnored(t *testing.T) {
	raw := claims(t, func(top, _, tpm map[string]any) {
		top["eat_nonce"], top["ear_raw_evidence"] = "x", "y"
		tpm["bootcount"] = 3
		tpm["ear_trustworthiness_vector"].(map[string]any)["sourced-data"] = 0
	})
	c, err := claim.ParseInsecure([]byte(raw))
	if diff := cmp.Diff(good(), c); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
}

func TestEncodeRefusesWhatNobodyWouldRead(t *testing.T) {
	for name, r := range map[string]struct {
		edit func(*claim.Claims)
		code reason.Code
	}{
		"T49_zone name": {func(c *claim.Claims) { c.Zone.Name = "a/b" }, reason.PolicyIdentityInvalid},
		"T49_node name": {func(c *claim.Claims) { c.Zone.Node = "" }, reason.PolicyIdentityInvalid},
		"no freshness":  {func(c *claim.Claims) { c.Zone.FreshUntil = 0 }, reason.Internal},
		"epoch":         {func(c *claim.Claims) { c.Zone.Epoch = 0 }, reason.Internal},
		"no submod":     {func(c *claim.Claims) { c.Submods = nil }, reason.Internal},
		"overstatement": {func(c *claim.Claims) {
			c.Submods = map[string]claim.Submod{"tpm": {Status: claim.StatusAffirming, Vector: claim.Vector{Hardware: 97}}}
		}, reason.Internal},
		"endless detail": {func(c *claim.Claims) { c.VerifierID.Build = strings.Repeat("x", 300) }, reason.Internal},
	} {
		c := good()
		r.edit(&c)
		if _, err := claim.EncodeCMW(c); reason.Of(err) != r.code {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func utf8String(t testing.TB, s string) []byte {
	t.Helper()
	der, err := asn1.MarshalWithParams(s, "utf8")
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestCMWRefuses(t *testing.T) {
	raw, err := claim.Encode(good())
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.RawURLEncoding.EncodeToString(raw)
	record := func(s string) []byte { return utf8String(t, s) }
	value := encode(t, good()).Value
	ia5, err := asn1.MarshalWithParams(`["application/eat-ucs+json","`+b64+`",8]`, "ia5")
	if err != nil {
		t.Fatal(err)
	}
	last := b64[len(b64)-1:]
	if len(raw)%3 == 0 || !strings.Contains("AQgw", last) && len(raw)%3 == 1 {
		t.Fatalf("the claims-set leaves no spare bits in base64")
	}
	spare := b64[:len(b64)-1] + string(last[0]+1)
	printable, err := asn1.MarshalWithParams("abc", "printable")
	if err != nil {
		t.Fatal(err)
	}
	long := append([]byte{asn1.TagUTF8String, 0x83, 0x00}, value[2:]...) // length in one byte more than needed
	padded := strings.TrimRight(b64, "=") + "="
	for name, der := range map[string][]byte{
		"empty":              nil,
		"trailing byte":      append(append([]byte{}, value...), 0),
		"truncated":          value[:len(value)-1],
		"PrintableString":    printable,
		"IA5String":          ia5,
		"spare bits":         record(`["application/eat-ucs+json","` + spare + `",8]`),
		"OCTET STRING":       append([]byte{asn1.TagOctetString}, value[1:]...),
		"long length":        long,
		"not JSON":           record("x"),
		"object":             record(`{"cmw":1}`),
		"two elements":       record(`["application/eat-ucs+json","` + b64 + `"]`),
		"four elements":      record(`["application/eat-ucs+json","` + b64 + `",8,8]`),
		"other media type":   record(`["application/eat+jwt","` + b64 + `",8]`),
		"media type in caps": record(`["Application/eat-ucs+json","` + b64 + `",8]`),
		"other indicator":    record(`["application/eat-ucs+json","` + b64 + `",4]`),
		"indicator as float": record(`["application/eat-ucs+json","` + b64 + `",8.0]`),
		"value no text":      record(`["application/eat-ucs+json",1,8]`),
		"space":              record(`["application/eat-ucs+json", "` + b64 + `",8]`),
		"trailing JSON":      record(`["application/eat-ucs+json","` + b64 + `",8] 1`),
		"padding":            record(`["application/eat-ucs+json","` + padded + `",8]`),
		"newline in base64":  record(`["application/eat-ucs+json","` + b64[:4] + `\n` + b64[4:] + `",8]`),
		"no base64url":       record(`["application/eat-ucs+json","` + b64[:4] + `+` + b64[5:] + `",8]`),
		"claims invalid":     record(`["application/eat-ucs+json","e30",8]`),
		"larger than limit":  record(`["application/eat-ucs+json","` + strings.Repeat("A", 30<<10) + `",8]`),
	} {
		if c, err := claim.ParseCMWInsecure(der); reason.Of(err) != reason.AuthInvalid {
			t.Errorf("%s: err = %v, claims %+v", name, err, c)
		}
	}
}

// The size is looked at before anything is decoded.
func TestCMWSizeComesFirst(t *testing.T) {
	_, err := claim.ParseCMWInsecure(make([]byte, 24<<10))
	if !strings.Contains(reason.Detail(err), "larger") {
		t.Errorf("err = %v", err)
	}
}

func TestClaimOfACertificate(t *testing.T) {
	authority, ext := newCA(t), encode(t, good())
	if _, err := claim.FromCertificateInsecure(authority.leaf(t, "/zone/payments/node/"+node, ext)); err != nil {
		t.Errorf("claim is not read: %v", err)
	}
	critical := ext
	critical.Critical = true
	twice := authority.leaf(t, "/zone/payments/node/"+node, ext)
	twice.Extensions = append(twice.Extensions, ext)
	for name, cert := range map[string]error{
		"none":     second(claim.FromCertificateInsecure(nil)),
		"without":  second(claim.FromCertificateInsecure(authority.cert)),
		"critical": second(claim.FromCertificateInsecure(authority.leaf(t, "/zone/payments/node/"+node, critical))),
		"two":      second(claim.FromCertificateInsecure(twice)),
		"other":    second(claim.FromCertificateInsecure(authority.leaf(t, "/a", pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 36}, Value: ext.Value}))),
	} {
		if reason.Of(cert) != reason.AuthInvalid {
			t.Errorf("%s: %v", name, cert)
		}
	}
}

func second(_ claim.Claims, err error) error { return err }

// FuzzParseCMW: no panic; what parses encodes again to the same claims.
func FuzzParseCMW(f *testing.F) {
	f.Add(encode(f, good()).Value)
	f.Add(utf8String(f, `["application/eat-ucs+json","e30",8]`))
	f.Add([]byte{asn1.TagUTF8String, 0})
	f.Fuzz(func(t *testing.T, value []byte) {
		c, err := claim.ParseCMWInsecure(value)
		if err != nil {
			if reason.Of(err) != reason.AuthInvalid {
				t.Fatalf("code of %v", err)
			}
			return
		}
		ext, err := claim.EncodeCMW(c)
		if err != nil {
			t.Fatalf("what parses does not encode: %v", err)
		}
		again, err := claim.ParseCMWInsecure(ext.Value)
		if diff := cmp.Diff(c, again); err != nil || diff != "" {
			t.Fatalf("%v\n%s", err, diff)
		}
	})
}

// FuzzParseClaims reaches the claims-set without the wrapping around it.
func FuzzParseClaims(f *testing.F) {
	raw, err := claim.Encode(good())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte(`{"iat":1e400,"submods":{"":{}}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := claim.ParseInsecure(raw)
		if err != nil {
			return
		}
		again, err := claim.Encode(c)
		if err != nil {
			t.Fatalf("what parses does not encode: %v", err)
		}
		back, err := claim.ParseInsecure(again)
		if diff := cmp.Diff(c, back); err != nil || diff != "" {
			t.Fatalf("%v\n%s", err, diff)
		}
	})
}
