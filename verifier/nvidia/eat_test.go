package nvidia_test

import (
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/jwt"
	"github.com/zonebroker/zonebroker/verifier/nvidia"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// eat is a detached bundle of a test issuer.
type eat struct {
	service, other *documenttest.NRAS
	devices        map[string]map[string]any
	overall        func(map[string]any)
	tokens         func(map[string]string) // behind the digests
	head           func(string) string
	raw            func([]byte) []byte
	want           nvidia.Expectation
	now            time.Time
	issuer         string
}

func newEAT() *eat {
	hexNonce := hex.EncodeToString(nonce[:])
	return &eat{
		service: documenttest.NewNRAS("k1"), other: documenttest.NewNRAS("k1"), now: noon, issuer: documenttest.NRASIssuer,
		devices: map[string]map[string]any{"GPU-0": documenttest.GPUClaims(hexNonce, noon), "GPU-1": documenttest.GPUClaims(hexNonce, noon)},
		want:    nvidia.Expectation{Nonce: nonce[:], IssuedAt: noon.Add(-time.Second)},
	}
}

func (e *eat) bundle() []byte {
	tokens := map[string]string{}
	for name, claims := range e.devices {
		tokens[name] = e.service.Token(claims)
	}
	claims := documenttest.NRASOverall(hex.EncodeToString(nonce[:]), noon, tokens)
	if e.overall != nil {
		e.overall(claims)
	}
	head := e.service.Token(claims)
	if e.head != nil {
		head = e.head(head)
	}
	if e.tokens != nil {
		e.tokens(tokens)
	}
	raw := documenttest.DetachedEAT(head, tokens)
	if e.raw != nil {
		raw = e.raw(raw)
	}
	return raw
}

func (e *eat) verify(t testing.TB) (nvidia.Evidence, error) {
	t.Helper()
	keys, err := jwt.ParseKeys(e.service.JWKS())
	if err != nil {
		t.Fatal(err)
	}
	issuers, err := jwt.NewIssuers(nvidia.Profile(), []jwt.Settings{{Name: "nras", Issuer: e.issuer, Keys: keys}})
	if err != nil {
		t.Fatal(err)
	}
	trust, err := nvidia.NewTrust(nil, nil, issuers)
	if err != nil {
		t.Fatal(err)
	}
	return nvidia.Verify(e.bundle(), e.want, trust, e.now)
}

// TestCloudNRAS: rows of the catalogue of bad input (cloud.md, section 4), and what
// else a bundle can get wrong, each one change of a good bundle of two GPUs (test
// issuer).
func TestCloudNRAS(t *testing.T) {
	gpu := func(name string, value any) func(*eat) { return func(e *eat) { e.devices["GPU-1"][name] = value } }
	all := func(name string, value any) func(*eat) {
		return func(e *eat) { e.overall = func(c map[string]any) { c[name] = value } }
	}
	chain := func(status, ocsp string) func(*eat) {
		return gpu("x-nvidia-gpu-vbios-rim-cert-chain", map[string]any{"x-nvidia-cert-status": status, "x-nvidia-cert-ocsp-status": ocsp})
	}
	raw := func(s string) func(*eat) { return func(e *eat) { e.raw = func([]byte) []byte { return []byte(s) } } }
	for name, c := range map[string]struct {
		change func(*eat)
		want   reason.Code
	}{
		"good":                               {func(*eat) {}, ""},
		"row 87 staging issuer":              {func(e *eat) { e.issuer = "https://nras.attestation-stg.nvidia.com" }, reason.JWTIssuer},
		"row 87 staging issuer in the token": {all("iss", "https://nras.attestation-stg.nvidia.com"), reason.JWTIssuer},
		"row 87 staging issuer of a device":  {gpu("iss", "https://nras.attestation-stg.nvidia.com"), reason.JWTIssuer},
		"row 88 token of a device edited":    {func(e *eat) { e.tokens = func(m map[string]string) { m["GPU-1"] += "A" } }, reason.NvidiaSubmoduleDigest},
		"row 88 tokens swapped":              {func(e *eat) { e.tokens = func(m map[string]string) { m["GPU-0"], m["GPU-1"] = m["GPU-1"], m["GPU-0"] } }, reason.NvidiaSubmoduleDigest},
		"row 88 token of another time": {func(e *eat) {
			e.tokens = func(m map[string]string) { m["GPU-1"] = e.service.Token(e.devices["GPU-1"]) }
		}, reason.NvidiaSubmoduleDigest},
		"row 88 a device less":            {func(e *eat) { e.tokens = func(m map[string]string) { delete(m, "GPU-1") } }, reason.NvidiaSubmoduleDigest},
		"row 88 a device more":            {func(e *eat) { e.tokens = func(m map[string]string) { m["GPU-2"] = m["GPU-1"] } }, reason.NvidiaSubmoduleDigest},
		"row 88 a device by another name": {func(e *eat) { e.tokens = func(m map[string]string) { m["GPU-2"] = m["GPU-1"]; delete(m, "GPU-1") } }, reason.NvidiaSubmoduleDigest},
		"row 88 no digests":               {all("submods", nil), reason.NvidiaSubmoduleDigest},
		"row 88 another hash":             {all("submods", map[string]any{"GPU-0": []any{"DIGEST", []string{"SHA-1", "00"}}, "GPU-1": 1}), reason.NvidiaSubmoduleDigest},
		"no digest but a token":           {all("submods", map[string]any{"GPU-0": []any{"JWT", []string{"SHA-256", "00"}}, "GPU-1": 1}), reason.NvidiaSubmoduleDigest},
		"signed by another": {func(e *eat) {
			e.head = func(string) string { return e.other.Token(documenttest.NRASOverall("", noon, nil)) }
		}, reason.JWTSignature},
		"unknown key": {func(e *eat) {
			e.head = func(string) string { return documenttest.NewNRAS("k2").Token(map[string]any{}) }
		}, reason.JWTKID},
		"no token":                     {func(e *eat) { e.head = func(string) string { return "x" } }, reason.JWTMalformed},
		"expired":                      {func(e *eat) { e.now = noon.Add(62 * time.Minute) }, reason.JWTExpired},
		"a device's token expired":     {gpu("exp", noon.Add(-2*time.Minute).Unix()), reason.JWTExpired},
		"issued before the challenge":  {func(e *eat) { e.want.IssuedAt = noon.Add(10 * time.Minute); e.now = noon.Add(11 * time.Minute) }, reason.JWTIssuedAt},
		"good for a day":               {all("exp", noon.Add(24*time.Hour).Unix()), reason.JWTLifetime},
		"no expiry":                    {func(e *eat) { e.overall = func(c map[string]any) { delete(c, "exp") } }, reason.JWTLifetime},
		"another nonce":                {all("eat_nonce", strings.Repeat("00", 32)), reason.NvidiaNonceMismatch},
		"another nonce of a device":    {gpu("eat_nonce", strings.Repeat("00", 32)), reason.NvidiaNonceMismatch},
		"no nonce":                     {all("eat_nonce", ""), reason.NvidiaNonceMismatch},
		"a nonce that is no hex":       {all("eat_nonce", "zz"), reason.NvidiaNonceMismatch},
		"two nonces":                   {all("eat_nonce", []string{"a", "b"}), reason.JWTMalformed},
		"overall false":                {all("x-nvidia-overall-att-result", false), reason.NvidiaResult},
		"overall missing":              {all("x-nvidia-overall-att-result", nil), reason.NvidiaResult},
		"measurements failed":          {gpu("measres", "fail"), reason.NvidiaResult},
		"measurements missing":         {gpu("measres", nil), reason.NvidiaResult},
		"debugging":                    {gpu("dbgstat", "enabled"), reason.NvidiaResult},
		"debugging not told":           {gpu("dbgstat", nil), reason.NvidiaResult},
		"no secure boot":               {gpu("secboot", false), reason.NvidiaResult},
		"secure boot not told":         {gpu("secboot", nil), reason.NvidiaResult},
		"a RIM not verified":           {gpu("x-nvidia-gpu-vbios-rim-signature-verified", false), reason.NvidiaResult},
		"a RIM not told":               {gpu("x-nvidia-gpu-driver-rim-signature-verified", nil), reason.NvidiaResult},
		"report not verified, as text": {gpu("x-nvidia-gpu-attestation-report-signature-verified", "true"), reason.NvidiaResult},
		"something else false":         {gpu("x-nvidia-gpu-arch-check", false), reason.NvidiaResult},
		"a chain revoked":              {chain("valid", "revoked"), reason.NvidiaResult},
		"a chain expired":              {chain("expired", "good"), reason.NvidiaResult},
		"a member twice":               {raw(`[["JWT","a"],{"GPU-0":"a","GPU-0":"b"}]`), reason.NvidiaMalformed},
		"three parts":                  {raw(`[["JWT","a"],{"GPU-0":"a"},1]`), reason.NvidiaMalformed},
		"another type":                 {raw(`[["CWT","a"],{"GPU-0":"a"}]`), reason.NvidiaMalformed},
		"no device":                    {raw(`[["JWT","a"],{}]`), reason.NvidiaMalformed},
		"a device that is no text":     {raw(`[["JWT","a"],{"GPU-0":1}]`), reason.NvidiaMalformed},
		"a head of one":                {raw(`[["JWT"],{"GPU-0":"a"}]`), reason.NvidiaMalformed},
		"a long token":                 {func(e *eat) { e.head = func(string) string { return strings.Repeat("a", jwt.MaxToken+1) } }, reason.RequestTooLarge},
		"too large":                    {raw("[[" + strings.Repeat(" ", nvidia.MaxEvidence)), reason.RequestTooLarge},
		"a switch": {func(e *eat) {
			c := e.devices["GPU-1"]
			for name, v := range c {
				if after, ok := strings.CutPrefix(name, "x-nvidia-gpu-"); ok {
					delete(c, name)
					if strings.HasPrefix(after, "attestation-report") {
						c["x-nvidia-switch-"+after] = v
					}
				}
			}
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEAT()
			c.change(e)
			got, err := e.verify(t)
			if reason.Of(err) != c.want && (err != nil || c.want != "") {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if f := got.Facts(); err != nil && (f.NonceBound || len(f.Selectors) > 0) {
				t.Error("a refused bundle has facts")
			}
		})
	}
}

// TestFactsOfTokens: what a bundle says, and for how long.
func TestFactsOfTokens(t *testing.T) {
	e := newEAT()
	e.devices["GPU-1"]["exp"] = noon.Add(10 * time.Minute).Unix()
	got, err := e.verify(t)
	if err != nil {
		t.Fatal(err)
	}
	f := got.Facts()
	if f.Class != document.ClassB || !f.NonceBound || !f.IssuedAt.Equal(noon) || !f.ExpiresAt.Equal(noon.Add(10*time.Minute)) || len(f.Hazards) > 0 {
		t.Errorf("%+v", f)
	}
	for name, v := range map[string]string{"nvidia.form": "eat", "nvidia.devices": "2", "nvidia.driver": "550.90.07", "nvidia.measured": "true"} {
		if got := f.Values(name); len(got) != 1 || got[0] != v {
			t.Errorf("%s is %v, want %s", name, got, v)
		}
	}
	e.want.Nonce = nil
	if got, err = e.verify(t); err != nil || got.Facts().Class != document.ClassC {
		t.Errorf("without a nonce: %v, %v", got.Facts(), err)
	}
}
