package conformance

import (
	"github.com/zonebroker/zonebroker/verifier/tpm2"
)

// ReadPCRs exposes the readers of PCR values to the fuzz target.
func ReadPCRs(raw []byte, bank tpm2.Bank, tools bool) (map[int][]byte, error) {
	if tools {
		return tpm2ToolsPCRs(raw, bank)
	}
	return publishedPCRs(raw, bank)
}

// ReadAK exposes the reader of AKs to the fuzz target: the key that comes out.
func ReadAK(raw []byte) (tpm2.AK, error) {
	k, err := readAK(raw)
	if err != nil {
		return tpm2.AK{}, err
	}
	return k.parse()
}
