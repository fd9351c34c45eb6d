package nitro_test

import (
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/nitro"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// TestFieldsComeBeforeKeys: a document of a wrong form gets the code of its form,
// whoever signed it, whenever, or nobody (order of the reference: fields, leaf,
// chain, signature, times, debug, nonce; test PKI).
func TestFieldsComeBeforeKeys(t *testing.T) {
	l := newLab(t)
	stranger := newLab(t)
	long := make([]byte, nitro.MaxField+1)
	with := func(key string, value any) documenttest.NitroFields {
		return documenttest.NitroFields{Nonce: nonce, Content: func(m map[any]any) { m[key] = value }}
	}
	for _, c := range []struct {
		name string
		make documenttest.NitroFields
		want reason.Code
	}{
		{"digest", with("digest", "SHA256"), reason.NitroDigest},
		{"user data", documenttest.NitroFields{Nonce: nonce, UserData: long}, reason.NitroFields},
		{"a length", documenttest.NitroFields{Nonce: nonce, PCRs: map[int][]byte{3: long[:32]}}, reason.NitroPCR},
		{"an index", documenttest.NitroFields{Nonce: nonce, PCRs: map[int][]byte{4000: long[:48]}}, reason.NitroPCR},
		{"both maps", with("nitrotpm_pcrs", map[any]any{}), reason.NitroType},
	} {
		raw := l.document(t, c.make)
		torn := append([]byte(nil), raw...)
		torn[len(torn)-1] ^= 1
		for _, by := range []struct {
			name  string
			raw   []byte
			trust nitro.Trust
			now   time.Time
		}{
			{"signed", raw, l.trust, noon},
			{"under another root", raw, stranger.trust, noon},
			{"years later", raw, l.trust, noon.AddDate(30, 0, 0)},
			{"with a torn signature", torn, l.trust, noon},
		} {
			d, err := nitro.Verify(by.raw, wanted(c.make), by.trust, by.now)
			if got := code(d, err); got != c.want {
				t.Errorf("%s, %s: code %q, want %q (%v)", c.name, by.name, got, c.want, err)
			}
			if d.InstanceID() != "" || d.PCR(0) != nil {
				t.Errorf("%s, %s: a refused document says %q", c.name, by.name, d.InstanceID())
			}
		}
	}
}
