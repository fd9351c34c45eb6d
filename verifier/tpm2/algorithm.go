package tpm2

// TPM_ALG_ID values (TCG Algorithm Registry 1.34, table 3) that the decoders
// know. What is not listed here is refused, never skipped.
const (
	algRSA       uint16 = 0x0001
	algSHA1      uint16 = 0x0004
	algAES       uint16 = 0x0006
	algSHA256    uint16 = 0x000b
	algSHA384    uint16 = 0x000c
	algSHA512    uint16 = 0x000d
	algNull      uint16 = 0x0010
	algSM3       uint16 = 0x0012
	algSM4       uint16 = 0x0013
	algRSASSA    uint16 = 0x0014
	algRSAES     uint16 = 0x0015
	algRSAPSS    uint16 = 0x0016
	algOAEP      uint16 = 0x0017
	algECDSA     uint16 = 0x0018
	algECDH      uint16 = 0x0019
	algECDAA     uint16 = 0x001a
	algSM2       uint16 = 0x001b
	algECSchnorr uint16 = 0x001c
	algECMQV     uint16 = 0x001d
	algECC       uint16 = 0x0023
	algCamellia  uint16 = 0x0026
	algCFB       uint16 = 0x0043
)

// TPM_ECC_CURVE values (TCG Algorithm Registry, table 4).
const (
	curveP256 uint16 = 0x0003
	curveP384 uint16 = 0x0004
)

// knownBank reports whether alg is a bank that TPMs in the field have. SHA-3
// (0x0027 and up) is in the registry and in no chip: it counts as unknown.
func knownBank(alg uint16) bool {
	switch alg {
	case algSHA1, algSHA256, algSHA384, algSHA512, algSM3:
		return true
	}
	return false
}
