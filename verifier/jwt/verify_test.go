package jwt_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/jwt"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// TestVerifyRefuses changes one thing of a good token.
func TestVerifyRefuses(t *testing.T) {
	l := newLab(t)
	raw := func(h claims, payload string) []byte { return l.rsa.Raw(l.rsa.Header().With(h), []byte(payload)) }
	token := func(more claims) []byte { return l.rsa.Token(good().With(more)) }
	fine := token(nil)
	parts := strings.Split(string(fine), ".")
	evil := documenttest.NewJWTKey("evil", "RS256")
	for name, c := range map[string]struct {
		token []byte
		code  reason.Code
	}{
		"good":                       {fine, ""},
		"good, ES256":                {l.ec.Token(good()), ""},
		"good, an audience as list":  {token(claims{"aud": []string{audience}}), ""},
		"good, at the size limit":    {padded(l.rsa, jwt.MaxToken), ""},
		"over the size limit":        {padded(l.rsa, jwt.MaxToken+1), reason.RequestTooLarge},
		"no token":                   {nil, reason.JWTMalformed},
		"two parts":                  {[]byte(parts[0] + "." + parts[1]), reason.JWTMalformed},
		"four parts":                 {append(bytes.Clone(fine), '.'), reason.JWTMalformed},
		"JSON serialization":         {text(claims{"protected": parts[0], "payload": parts[1], "signature": parts[2]}), reason.JWTMalformed},
		"a new line behind":          {append(bytes.Clone(fine), '\n'), reason.JWTMalformed},
		"a new line inside":          {[]byte(parts[0] + "\n." + parts[1] + "." + parts[2]), reason.JWTMalformed},
		"padding":                    {[]byte(parts[0] + "=." + parts[1] + "." + parts[2]), reason.JWTMalformed},
		"bits behind the signature":  {lastBits(fine), reason.JWTMalformed},
		"empty claims":               {[]byte(parts[0] + ".." + parts[2]), reason.JWTMalformed},
		"header is a list":           {[]byte("W10." + parts[1] + "." + parts[2]), reason.JWTMalformed},
		"alg twice":                  {header(parts, `{"alg":"none","kid":"rsa-1","alg":"RS256"}`), reason.JWTMalformed},
		"Alg for alg":                {header(parts, `{"Alg":"RS256","kid":"rsa-1"}`), reason.JWTAlg},
		"alg none":                   {[]byte(headerText(`{"alg":"none","kid":"rsa-1"}`) + "." + parts[1] + "."), reason.JWTAlg},
		"HS256 with the public key":  {hs256(t, l.rsa, good()), reason.JWTAlg},
		"RS512 in the header":        {raw(claims{"alg": "RS512"}, string(text(good()))), reason.JWTAlg},
		"ES256 under the RSA key":    {raw(claims{"alg": "ES256"}, string(text(good()))), reason.JWTAlg},
		"the key is for PS256":       {l.enc.Raw(l.enc.Header().With(claims{"kid": "pinned-alg"}), text(good())), reason.JWTAlg},
		"crit":                       {raw(claims{"crit": []string{"exp"}}, string(text(good()))), reason.JWTCrit},
		"crit null":                  {header(parts, `{"alg":"RS256","kid":"rsa-1","crit":null}`), reason.JWTCrit},
		"b64 false":                  {raw(claims{"b64": false}, string(text(good()))), reason.JWTCrit},
		"kid missing":                {raw(claims{"kid": nil}, string(text(good()))), reason.JWTKID},
		"kid unknown":                {evil.Token(good()), reason.JWTKID},
		"kid is a path":              {raw(claims{"kid": "../../keys/rsa-1"}, string(text(good()))), reason.JWTKID},
		"jku":                        {evil.Raw(evil.Header().With(claims{"jku": "https://evil.test/jwks"}), text(good())), reason.JWTKID},
		"key of use enc":             {l.enc.Token(good()), reason.JWTKeyUse},
		"key of operation encrypt":   {l.enc.Raw(l.enc.Header().With(claims{"kid": "ops"}), text(good())), reason.JWTKeyUse},
		"jwk under a known kid":      {evil.Raw(claims{"alg": "RS256", "kid": "rsa-1", "jwk": evil.JWK()}, text(good())), reason.JWTSignature},
		"a jwk that is none":         {evil.Raw(claims{"alg": "RS256", "kid": "rsa-1", "jwk": claims{"kty": "RSA"}}, text(good())), reason.JWTSignature},
		"a jwk of text":              {evil.Raw(claims{"alg": "RS256", "kid": "rsa-1", "jwk": "x"}, text(good())), reason.JWTSignature},
		"an x5c that is none":        {evil.Raw(claims{"alg": "RS256", "kid": "rsa-1", "x5c": []string{"AAAA"}}, text(good())), reason.JWTSignature},
		"a jwk and no kid":           {evil.Raw(claims{"alg": "RS256", "jwk": claims{"kty": "RSA"}}, text(good())), reason.JWTKID},
		"a jwk beside a good key":    {raw(claims{"jwk": claims{"kty": "RSA"}, "x5c": []string{"AAAA"}}, string(text(good()))), ""},
		"another key, known kid":     {evil.Raw(l.rsa.Header(), text(good())), reason.JWTSignature},
		"no signature":               {[]byte(parts[0] + "." + parts[1] + "."), reason.JWTSignature},
		"claims changed":             {[]byte(parts[0] + "." + b64(text(good().With(claims{"aud": "x"}))) + "." + parts[2]), reason.JWTSignature},
		"claims changed to no JSON":  {[]byte(parts[0] + "." + b64([]byte(`{"aud":`)) + "." + parts[2]), reason.JWTSignature},
		"claims are a list":          {raw(nil, `[]`), reason.JWTMalformed},
		"claims with a trailing one": {raw(nil, string(text(good()))+"{}"), reason.JWTMalformed},
		"aud twice":                  {raw(nil, `{"aud":"x",`+string(text(good()))[1:]), reason.JWTMalformed},
		"twice, deep inside":         {token(claims{"x": raw2(`{"y":{"z":1,"z":1}}`)}), reason.JWTMalformed},
		"exp is text":                {token(claims{"exp": "1795183200"}), reason.JWTMalformed},
		"exp with a fraction":        {token(claims{"exp": raw2("1795179600.5")}), reason.JWTMalformed},
		"exp is null":                {token(claims{"exp": raw2("null")}), reason.JWTLifetime},
		"iat is negative":            {token(claims{"iat": -1}), reason.JWTLifetime},
		"iss is a list":              {token(claims{"iss": []string{issuerURL}}), reason.JWTMalformed},
		"iss missing":                {token(claims{"iss": nil}), reason.JWTIssuer},
		"iss http":                   {token(claims{"iss": "http://issuer.test"}), reason.JWTIssuer},
		"iss with a slash":           {token(claims{"iss": issuerURL + "/"}), reason.JWTIssuer},
		"ISS for iss":                {token(claims{"iss": nil, "ISS": issuerURL}), reason.JWTIssuer},
		"aud missing":                {token(claims{"aud": nil}), reason.JWTAudience},
		"aud empty":                  {token(claims{"aud": []string{}}), reason.JWTAudience},
		"aud another":                {token(claims{"aud": "vault/prod"}), reason.JWTAudience},
		"aud and another":            {token(claims{"aud": []string{audience, "other"}}), reason.JWTAudience},
		"aud twice the same":         {token(claims{"aud": []string{audience, audience}}), reason.JWTAudience},
		"exp missing":                {token(claims{"exp": nil}), reason.JWTLifetime},
		"iat missing":                {token(claims{"iat": nil}), reason.JWTLifetime},
		"ten years":                  {token(claims{"exp": noon.AddDate(10, 0, 0).Unix()}), reason.JWTLifetime},
		"a second too long":          {token(claims{"exp": noon.Add(time.Hour + time.Second).Unix()}), reason.JWTLifetime},
		"ends before it begins":      {token(claims{"iat": noon.Add(30 * time.Second).Unix(), "exp": noon.Add(20 * time.Second).Unix()}), reason.JWTLifetime},
		"issued in the future":       {token(claims{"iat": noon.Add(61 * time.Second).Unix()}), reason.JWTIssuedAt},
		"a clock that is ahead":      {token(claims{"iat": noon.Add(60 * time.Second).Unix()}), ""},
		"not before the future":      {token(claims{"nbf": noon.Add(61 * time.Second).Unix()}), reason.JWTIssuedAt},
		"expired":                    {token(claims{"iat": noon.Add(-time.Hour).Unix(), "exp": noon.Unix()}), reason.JWTExpired},
		"expired before it began":    {token(claims{"exp": noon.Add(-time.Hour).Unix()}), reason.JWTExpired},
		"expired, of ten years":      {token(claims{"iat": noon.AddDate(-10, 0, 0).Unix(), "exp": noon.Unix()}), reason.JWTExpired},
		"of ten years in the future": {token(claims{"iat": noon.Add(time.Hour).Unix(), "exp": noon.AddDate(10, 0, 0).Unix()}), reason.JWTLifetime},
		"in the future, ends before": {token(claims{"iat": noon.Add(2 * time.Hour).Unix()}), reason.JWTIssuedAt},
		"expired and in the future":  {token(claims{"iat": noon.Add(time.Hour).Unix(), "exp": noon.Unix()}), reason.JWTExpired},
		"older than the challenge":   {token(claims{"iat": noon.Add(-61 * time.Second).Unix(), "exp": noon.Add(time.Minute).Unix()}), reason.JWTIssuedAt},
		"a clock that is behind":     {token(claims{"iat": noon.Add(-60 * time.Second).Unix(), "exp": noon.Add(time.Minute).Unix()}), ""},
	} {
		got, err := l.issuers.Verify(c.token, want, noon)
		if reason.Of(err) != c.code {
			t.Errorf("%s: %v, want %q", name, err, c.code)
		}
		if err != nil && got.Issuer().Name != "" {
			t.Errorf("%s: a refused token says something: %+v", name, got)
		}
	}
	if _, err := l.issuers.Verify(fine, want, time.Time{}); reason.Of(err) != reason.JWTIssuedAt {
		t.Errorf("without a clock: %v", err)
	}
	if _, err := l.issuers.Verify(fine, jwt.Expect{}, noon); reason.Of(err) != reason.JWTAudience {
		t.Errorf("without an audience to expect: %v", err)
	}
	for name, none := range map[string]jwt.Issuers{"the zero value": {}, "no issuer": issuersOf(t, profile)} {
		if _, err := none.Verify(fine, want, noon); reason.Of(err) != reason.JWTKID {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := none.Verify(hs256(t, l.rsa, good()), want, noon); reason.Of(err) != reason.JWTAlg {
			t.Errorf("%s, HS256: %v", name, err)
		}
	}
	if _, err := issuersOf(t, profile).Verify(raw(claims{"alg": "PS512"}, string(text(good()))), want, noon); reason.Of(err) != reason.JWTAlg {
		t.Errorf("no issuer, an algorithm that the format has not: %v", err)
	}
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func headerText(h string) string { return b64([]byte(h)) }

// header puts another header before the good parts: whatever it says, what is
// wrong with it comes before the signature.
func header(parts []string, h string) []byte {
	return []byte(headerText(h) + "." + parts[1] + "." + parts[2])
}

type raw2 string

func (r raw2) MarshalJSON() ([]byte, error) { return []byte(r), nil }

// padded returns a good token of n bytes; base64url cannot have every length, so
// header and claims share the filling.
func padded(k *documenttest.JWTKey, n int) []byte {
	for h := range 4 {
		for fill := (n - 600) * 3 / 4; ; fill++ {
			token := k.Raw(k.Header().With(claims{"pad": long(h)}), text(good().With(claims{"pad": long(fill)})))
			if len(token) == n {
				return token
			}
			if len(token) > n {
				break
			}
		}
	}
	panic("no token of that length")
}

// lastBits sets the bits behind the last byte of an RSA-2048 signature, which
// base64url has room for and lenient decoders ignore.
func lastBits(token []byte) []byte {
	out := bytes.Clone(token)
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(digits, out[len(out)-1])
	out[len(out)-1] = digits[last|1]
	return out
}

// hs256 signs with the PEM of the public key as secret.
func hs256(t *testing.T, k *documenttest.JWTKey, c claims) []byte {
	der, err := x509.MarshalPKIXPublicKey(k.Signer().Public())
	if err != nil {
		t.Fatal(err)
	}
	signed := headerText(`{"alg":"HS256","kid":"rsa-1"}`) + "." + b64(text(c))
	mac := hmac.New(sha256.New, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	mac.Write([]byte(signed))
	return []byte(signed + "." + b64(mac.Sum(nil)))
}

// TestVerifyTellsWhatItRead: times and issuer of a good token, and claims by their
// exact names.
func TestVerifyTellsWhatItRead(t *testing.T) {
	l := newLab(t)
	got, err := l.issuers.Verify(l.rsa.Token(good().With(claims{"Name": "upper", "name": "lower", "n": 1})), want, noon)
	if err != nil {
		t.Fatal(err)
	}
	if got.Issuer().Name != "a" || !got.IssuedAt().Equal(noon) || !got.ExpiresAt().Equal(noon.Add(time.Hour)) || got.FixedAudience() {
		t.Errorf("%+v", got)
	}
	var c struct {
		Name string `json:"name"`
	}
	if err := got.Decode(&c); err != nil || c.Name != "lower" {
		t.Errorf("%+v, %v", c, err)
	}
	var d struct {
		N string `json:"n"`
	}
	if err := got.Decode(&d); reason.Of(err) != reason.JWTMalformed {
		t.Errorf("a number as text: %v", err)
	}
}

// TestIssuersApart: with the key of one issuer nobody speaks for another, and
// issuers that share keys are told apart by iss.
func TestIssuersApart(t *testing.T) {
	one, two := documenttest.NewJWTKey("k", "ES256"), documenttest.NewJWTKey("k", "ES256")
	shared := documenttest.NewJWTKey("shared", "ES256")
	s := issuersOf(t, profile,
		jwt.Settings{Name: "one", Issuer: "https://one.test", Keys: keysOf(t, one.JWK(), shared.JWK())},
		jwt.Settings{Name: "two", Issuer: "https://two.test", Keys: keysOf(t, two.JWK(), shared.JWK()), Audience: "fixed", MaxLifetime: 2 * time.Hour})
	if s.Len() != 2 {
		t.Errorf("%d issuers", s.Len())
	}
	for name, c := range map[string]struct {
		key  *documenttest.JWTKey
		more claims
		code reason.Code
		from string
	}{
		"one":                        {one, claims{"iss": "https://one.test"}, "", "one"},
		"two":                        {two, claims{"iss": "https://two.test", "aud": "fixed"}, "", "two"},
		"two by the shared key":      {shared, claims{"iss": "https://two.test", "aud": "fixed"}, "", "two"},
		"one by the shared key":      {shared, claims{"iss": "https://one.test"}, "", "one"},
		"one says two":               {one, claims{"iss": "https://two.test", "aud": "fixed"}, reason.JWTSignature, ""},
		"a third":                    {one, claims{"iss": "https://three.test"}, reason.JWTIssuer, ""},
		"two with the challenge":     {two, claims{"iss": "https://two.test"}, reason.JWTAudience, ""},
		"one with the fixed one":     {one, claims{"iss": "https://one.test", "aud": "fixed"}, reason.JWTAudience, ""},
		"two, older than challenge":  {two, claims{"iss": "https://two.test", "aud": "fixed", "iat": noon.Add(-time.Hour).Unix()}, "", "two"},
		"two, longer than it may":    {two, claims{"iss": "https://two.test", "aud": "fixed", "exp": noon.Add(2*time.Hour + time.Second).Unix()}, reason.JWTLifetime, ""},
		"one, with the time of two":  {one, claims{"iss": "https://one.test", "exp": noon.Add(2 * time.Hour).Unix()}, reason.JWTLifetime, ""},
		"two, within its longer one": {two, claims{"iss": "https://two.test", "aud": "fixed", "exp": noon.Add(2 * time.Hour).Unix()}, "", "two"},
	} {
		got, err := s.Verify(c.key.Token(good().With(c.more)), want, noon)
		if reason.Of(err) != c.code || got.Issuer().Name != c.from || err == nil && got.FixedAudience() != (c.from == "two") {
			t.Errorf("%s: %+v, %v", name, got.Issuer().Name, err)
		}
	}
}

// TestAlgorithmsOfEachIssuer: what one issuer may use another may not.
func TestAlgorithmsOfEachIssuer(t *testing.T) {
	one, two := documenttest.NewJWTKey("alg-1", "RS512"), documenttest.NewJWTKey("alg-2", "RS512")
	s := issuersOf(t, profile,
		jwt.Settings{Name: "one", Issuer: issuerURL, Keys: keysOf(t, one.JWK()), Algorithms: []string{"RS512"}},
		jwt.Settings{Name: "two", Issuer: "https://two.test", Keys: keysOf(t, two.JWK())})
	if _, err := s.Verify(one.Token(good()), want, noon); err != nil {
		t.Errorf("RS512 of the one that has it: %v", err)
	}
	if _, err := s.Verify(two.Token(good().With(claims{"iss": "https://two.test"})), want, noon); reason.Of(err) != reason.JWTAlg {
		t.Errorf("RS512 of the other: %v", err)
	}
}

// TestAnonymousIssuer: a key without an id stands for a verifier that names
// itself nowhere; a token without expiry then has an age.
func TestAnonymousIssuer(t *testing.T) {
	k, other := documenttest.NewJWTKey("", "ES256"), documenttest.NewJWTKey("", "ES256")
	p := jwt.Profile{Format: "test", Algorithms: []string{"ES256"}, MaxLifetime: time.Hour, MaxAge: 5 * time.Minute, Anonymous: true}
	s := issuersOf(t, p, jwt.Settings{Name: "v", Keys: keysOf(t, k.JWK())}, jwt.Settings{Name: "w", Keys: keysOf(t, other.JWK())})
	expect := jwt.Expect{NoAudience: true}
	bare := good().With(claims{"iss": nil, "aud": nil, "exp": nil})
	for name, c := range map[string]struct {
		token []byte
		now   time.Time
		code  reason.Code
	}{
		"no kid":               {k.Token(bare), noon, ""},
		"a kid that is unread": {k.Raw(k.Header().With(claims{"kid": "x"}), text(bare)), noon, ""},
		"an iss of its own":    {k.Token(bare.With(claims{"iss": "me"})), noon, ""},
		"a key of nobody":      {documenttest.NewJWTKey("", "ES256").Token(bare), noon, reason.JWTSignature},
		"just young enough":    {k.Token(bare), noon.Add(5*time.Minute - time.Second), ""},
		"too old":              {k.Token(bare), noon.Add(5 * time.Minute), reason.JWTExpired},
		"exp in place of age":  {k.Token(bare.With(claims{"exp": noon.Add(time.Hour).Unix()})), noon.Add(30 * time.Minute), ""},
		"neither time":         {k.Token(bare.With(claims{"iat": nil})), noon, reason.JWTLifetime},
	} {
		got, err := s.Verify(c.token, expect, c.now)
		if reason.Of(err) != c.code || err == nil && got.Issuer().Name != "v" {
			t.Errorf("%s: %v, %q", name, err, got.Issuer().Name)
		}
	}
}

// TestKeyRotation: after the old key left the set, what it signed counts no more.
func TestKeyRotation(t *testing.T) {
	t.Run("row 89 old key removed", func(t *testing.T) {
		old, next := documenttest.NewJWTKey("old", "ES256"), documenttest.NewJWTKey("next", "ES256")
		token := old.Token(good())
		both := issuersOf(t, profile, jwt.Settings{Issuer: issuerURL, Keys: keysOf(t, old.JWK(), next.JWK())})
		if _, err := both.Verify(token, want, noon); err != nil {
			t.Fatal(err)
		}
		after := issuersOf(t, profile, jwt.Settings{Issuer: issuerURL, Keys: keysOf(t, next.JWK())})
		if _, err := after.Verify(token, want, noon); reason.Of(err) != reason.JWTKID {
			t.Errorf("signed by a key that left: %v", err)
		}
	})
}

func FuzzVerify(f *testing.F) {
	l := newLab(f)
	fine := l.ec.Token(good())
	f.Add(fine)
	f.Add(l.rsa.Token(good().With(claims{"aud": []string{audience}})))
	f.Add([]byte("e30.e30."))
	f.Add(l.ec.Raw(l.ec.Header().With(claims{"jwk": l.ec.JWK(), "crit": []string{"b64"}}), []byte(`{"iss":1,"iss":2}`)))
	claims1 := strings.Split(string(fine), ".")[1]
	f.Fuzz(func(t *testing.T, raw []byte) {
		if _, err := l.issuers.Verify(raw, want, noon); err == nil && !bytes.Contains(raw, []byte(claims1)) && !bytes.HasPrefix(raw, []byte(headerText(string(text(l.rsa.Header()))))) {
			t.Errorf("took %q", raw)
		}
	})
}

// BenchmarkVerifyJWT is one token of 1 KiB: RS256 as of the clouds, ES256 as of
// other verifiers.
func BenchmarkVerifyJWT(b *testing.B) {
	l := newLab(b)
	for name, k := range map[string]*documenttest.JWTKey{"RS256": l.rsa, "ES256": l.ec} {
		token := k.Token(good().With(claims{"pad": long(500)}))
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := l.issuers.Verify(token, want, noon); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
