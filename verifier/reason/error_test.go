package reason_test

import (
	"errors"
	"testing"

	"github.com/zonebroker/zonebroker/verifier/reason"
)

func TestErrorSaysCodeAndDetail(t *testing.T) {
	for want, err := range map[string]error{
		"tpm2.pcr.digest":                reason.New(reason.TPM2PCRDigest, ""),
		"tpm2.pcr.digest: PCR 4 differs": reason.Wrap(reason.TPM2PCRDigest, "PCR 4 differs", errors.New("private")),
	} {
		if err.Error() != want {
			t.Errorf("%q, want %q", err.Error(), want)
		}
	}
}

// TestIsComparesByCode: with a bare code, and with nothing else.
func TestIsComparesByCode(t *testing.T) {
	err := reason.New(reason.TPM2PCRDigest, "PCR 4 differs")
	if !errors.Is(err, reason.New(reason.TPM2PCRDigest, "")) {
		t.Error("not its own code")
	}
	for _, other := range []error{
		reason.New(reason.TPM2PCRBank, ""), reason.New(reason.TPM2PCRDigest, "PCR 4 differs"), errors.New("tpm2.pcr.digest"),
	} {
		if errors.Is(err, other) {
			t.Errorf("is %v", other)
		}
	}
}
