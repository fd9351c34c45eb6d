package verifier

import (
	"github.com/zonebroker/zonebroker/verifier/jwt"
	"github.com/zonebroker/zonebroker/verifier/nvidia"
	"github.com/zonebroker/zonebroker/verifier/tdx"
)

// named returns the objects of a kind by their names.
func (t trustObjects) named(kind string) map[string][]byte {
	out := map[string][]byte{}
	for _, o := range t {
		if o.Kind == kind {
			out[o.Name] = o.Raw
		}
	}
	return out
}

func (t trustObjects) intel(d *Documents) (err error) {
	d.TDX, err = tdx.NewTrust(t.of(TrustIntel), t.named(TrustIntelTCB))
	return err
}

func (t trustObjects) nvidia(d *Documents) error {
	settings, err := jwt.Parse(nvidia.Profile(), t.issuers())
	if err != nil {
		return err
	}
	issuers, err := jwt.NewIssuers(nvidia.Profile(), settings)
	if err != nil {
		return err
	}
	d.NVIDIA, err = nvidia.NewTrust(t.of(TrustNVIDIA), t.named(TrustNVIDIARIM), issuers)
	return err
}
