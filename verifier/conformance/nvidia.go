package conformance

import (
	"errors"

	"github.com/zonebroker/zonebroker/verifier/jwt"
	"github.com/zonebroker/zonebroker/verifier/nvidia"
	"github.com/zonebroker/zonebroker/verifier/x509chain"
)

// nvidiaIssuer is who signs tokens where a row names no other.
const nvidiaIssuer = "https://nras.attestation.nvidia.com"

// judgeNVIDIA judges evidence of GPUs: reports, or a detached EAT with the keys
// that the row names.
func judgeNVIDIA(c *testcase) (facts, error) {
	if _, err := c.choice("form", "", nvidia.FormSPDM, nvidia.FormEAT); err != nil {
		return nil, err
	}
	raw, at, err := c.dated()
	if err != nil {
		return nil, err
	}
	trust, err := c.nvidiaTrust()
	if err != nil {
		return nil, err
	}
	evidence, err := nvidia.Verify(raw, nvidia.Expectation{Nonce: c.asked("nonce")}, trust, at)
	if err != nil {
		return nil, err
	}
	return nil, refuseHazards(evidence.Facts())
}

func (c *testcase) nvidiaTrust() (nvidia.Trust, error) {
	roots, err := c.companions("roots")
	if err != nil {
		return nvidia.Trust{}, err
	}
	sets, _, err := c.keySets() // reports need none
	if err != nil {
		return nvidia.Trust{}, err
	}
	issuer := c.get("issuer")
	if issuer == "" {
		issuer = nvidiaIssuer
	}
	settings := make([]jwt.Settings, 0, len(sets))
	for _, keys := range sets {
		settings = append(settings, jwt.Settings{Name: "row", Issuer: issuer, Keys: keys})
	}
	issuers, err := jwt.NewIssuers(nvidia.Profile(), settings)
	if err != nil {
		return nvidia.Trust{}, bad("jwks: %v", err)
	}
	if _, err := x509chain.NewRoots(roots...); errors.Is(err, x509chain.ErrNoAnchor) {
		roots = nil // the keys of tokens count all the same
	}
	return anchored(nvidia.NewTrust(roots, nil, issuers))
}
