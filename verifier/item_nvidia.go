package verifier

import (
	"crypto/sha256"
	"encoding/hex"

	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/nvidia"
)

// judgeNVIDIA wants the devices asked with SHA-256 of what the report of the guest
// carries: only a guest that knows its challenge could ask so, and the broker
// trusts it to have asked its own devices.
func judgeNVIDIA(in *itemInput, trust *Documents) (document.Facts, error) {
	nonce := sha256.Sum256(in.Primary[:])
	e, err := nvidia.Verify(in.Document, nvidia.Expectation{Nonce: nonce[:], IssuedAt: in.IssuedAt}, trust.NVIDIA, in.Now)
	if err != nil {
		return document.Facts{}, err
	}
	f := e.Facts()
	f.Anchors = append(f.Anchors, document.Anchor{Kind: document.AnchorReport, Value: hex.EncodeToString(in.Primary[:])})
	return f, nil
}
