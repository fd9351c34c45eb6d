package nvidia

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/zonebroker/zonebroker/verifier/jwt"
	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/strictjson"
)

// Profile is what NVIDIA's tokens are held to: ES384, an hour of life, no audience
// (the nonce takes its place). Which issuer and which keys is configured.
func Profile() jwt.Profile {
	return jwt.Profile{Format: "nvidia", Algorithms: []string{"ES384"}, MaxLifetime: time.Hour}
}

// overall is the token over all devices.
type overall struct {
	Result  *bool                      `json:"x-nvidia-overall-att-result"`
	Nonce   string                     `json:"eat_nonce"`
	Submods map[string]json.RawMessage `json:"submods"` // ["DIGEST", ["SHA-256", hex]]
}

// device is the token of one.
type device struct {
	Nonce    string `json:"eat_nonce"`
	Result   string `json:"measres"`
	Debug    string `json:"dbgstat"`
	Secure   *bool  `json:"secboot"`
	Hardware string `json:"hwmodel"`
	UEID     string `json:"ueid"`
	Driver   string `json:"x-nvidia-gpu-driver-version"`
	VBIOS    string `json:"x-nvidia-gpu-vbios-version"`

	name string
	all  map[string]any // as they stand
}

// bundle is a detached EAT: [["JWT", overall], {name: token}].
type bundle struct {
	overall string
	devices map[string]string
}

func parseBundle(raw []byte) (bundle, error) {
	refused := func(err error) (bundle, error) {
		return bundle{}, reason.Wrap(reason.NvidiaMalformed, `the bundle is not [["JWT", token], {device: token}]`, err)
	}
	var parts []json.RawMessage
	if err := strictjson.UnmarshalKnown(raw, &parts); err != nil || len(parts) != 2 {
		return refused(err)
	}
	var head []string
	var b bundle
	if err := json.Unmarshal(parts[0], &head); err != nil || len(head) != 2 || head[0] != "JWT" {
		return refused(err)
	}
	if err := json.Unmarshal(parts[1], &b.devices); err != nil || len(b.devices) == 0 || len(b.devices) > MaxDevices {
		return refused(err)
	}
	b.overall = head[1]
	return b, nil
}

// verifyBundle judges a detached EAT: the overall token, that it names the devices'
// tokens by their digest and no others, these tokens, nonces, then results.
func (t Trust) verifyBundle(raw []byte, want Expectation, now time.Time) (Evidence, error) {
	b, err := parseBundle(raw)
	if err != nil {
		return Evidence{}, err
	}
	expect := jwt.Expect{NoAudience: true, IssuedAt: want.IssuedAt}
	token, err := t.issuers.Verify([]byte(b.overall), expect, now)
	if err != nil {
		return Evidence{}, err
	}
	var all overall
	if err := token.Decode(&all); err != nil {
		return Evidence{}, err
	}
	if err := all.checkDigests(b.devices); err != nil {
		return Evidence{}, err
	}
	out := Evidence{form: FormEAT, bound: want.Nonce != nil, issued: token.IssuedAt(), expires: token.ExpiresAt()}
	nonces := []string{all.Nonce}
	var claims []device
	for _, name := range slices.Sorted(maps.Keys(b.devices)) {
		one, err := t.issuers.Verify([]byte(b.devices[name]), expect, now)
		if err != nil {
			return Evidence{}, err
		}
		c := device{name: name}
		if err := c.read(&one); err != nil {
			return Evidence{}, err
		}
		if one.ExpiresAt().Before(out.expires) {
			out.expires = one.ExpiresAt()
		}
		nonces, claims = append(nonces, c.Nonce), append(claims, c)
	}
	for _, n := range nonces {
		if got, err := hex.DecodeString(n); want.Nonce != nil && (err != nil || !bytes.Equal(got, want.Nonce)) {
			return Evidence{}, reason.Newf(reason.NvidiaNonceMismatch, "eat_nonce of a token is not %x", want.Nonce)
		}
	}
	if all.Result == nil || !*all.Result {
		return Evidence{}, reason.New(reason.NvidiaResult, "the overall result is not true")
	}
	for i := range claims {
		if err := claims[i].judge(); err != nil {
			return Evidence{}, err
		}
		out.devices = append(out.devices, claims[i].facts())
	}
	return out, nil
}

// checkDigests: the overall token alone says which devices there are. A device more
// or less, or a token that was swapped, changes what the result is about.
func (o *overall) checkDigests(devices map[string]string) error {
	if len(o.Submods) != len(devices) {
		return reason.Newf(reason.NvidiaSubmoduleDigest, "%d tokens of devices, the overall token names %d", len(devices), len(o.Submods))
	}
	for name, token := range devices {
		var parts []json.RawMessage
		var kind string
		var digest []string
		if json.Unmarshal(o.Submods[name], &parts) != nil || len(parts) != 2 ||
			json.Unmarshal(parts[0], &kind) != nil || kind != "DIGEST" ||
			json.Unmarshal(parts[1], &digest) != nil || len(digest) != 2 || digest[0] != "SHA-256" {
			return reason.Newf(reason.NvidiaSubmoduleDigest, "the overall token has no SHA-256 for %q", name)
		}
		sum := sha256.Sum256([]byte(token))
		if digest[1] != hex.EncodeToString(sum[:]) {
			return reason.Newf(reason.NvidiaSubmoduleDigest, "the token of %q is not the one that the overall token names", name)
		}
	}
	return nil
}

func (d *device) read(token *jwt.Token) error {
	if err := token.Decode(d); err != nil {
		return err
	}
	return token.Decode(&d.all)
}

// prefixes of the claims about a GPU and about a switch.
const (
	claimGPU    = "x-nvidia-gpu-"
	claimSwitch = "x-nvidia-switch-"
)

// required claims have to be there and true: of any device, and of a GPU beside
// them. A claim that is left out is not one that held.
var (
	required    = []string{"attestation-report-signature-verified", "attestation-report-nonce-match"}
	requiredGPU = []string{
		"driver-rim-signature-verified", "driver-rim-measurements-available",
		"vbios-rim-signature-verified", "vbios-rim-measurements-available",
	}
)

// judge refuses a device of which anything did not hold.
func (d *device) judge() error {
	fail := func(what string) error {
		return reason.Newf(reason.NvidiaResult, "the token of %q: %s", d.name, what)
	}
	switch {
	case d.Result != "success":
		return fail("measres is not success")
	case d.Debug != "disabled":
		return fail("dbgstat is not disabled")
	case d.Secure == nil || !*d.Secure:
		return fail("secboot is not true")
	}
	prefix, needed := claimGPU, append(slices.Clone(required), requiredGPU...)
	if d.all[claimSwitch+required[0]] != nil {
		prefix, needed = claimSwitch, required
	}
	for _, name := range needed {
		if d.all[prefix+name] != true {
			return fail(prefix + name + " is not true")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(d.all)) {
		switch v := d.all[name].(type) {
		case bool:
			if !v && strings.HasPrefix(name, "x-nvidia-") {
				return fail(name + " is false")
			}
		case map[string]any: // a chain: its status, and that of its revocation
			if status := v["x-nvidia-cert-status"]; status != nil && status != "valid" {
				return fail(name + " is not valid")
			}
			if status := v["x-nvidia-cert-ocsp-status"]; status != nil && status != "good" {
				return fail(name + " is not good by OCSP")
			}
		}
	}
	return nil
}

func (d *device) facts() deviceFacts {
	return deviceFacts{hardware: d.Hardware, id: d.UEID, driver: d.Driver, vbios: d.VBIOS}
}
