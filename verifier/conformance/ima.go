package conformance

import (
	"bytes"
	"encoding/hex"
	"strconv"

	"github.com/zonebroker/zonebroker/verifier/ima"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// imaPCR is the PCR that the kernel extends.
const imaPCR = 10

// judgeIMA judges a measurement list: its structure, with check=appraise record
// by record, and last the PCR 10 that the row gives.
func judgeIMA(c *testcase) (facts, error) {
	check, err := c.choice("check", "", "replay", "appraise")
	if err != nil {
		return nil, err
	}
	bank, err := c.bank()
	if err != nil {
		return nil, err
	}
	raw, err := c.open(c.row.Path)
	if err != nil {
		return nil, err
	}
	if len(raw) > ima.MaxList {
		return nil, reason.New(reason.RequestTooLarge, "the measurement list is larger than 24 MiB")
	}
	list, err := ima.Parse(raw)
	if err != nil {
		return nil, err
	}
	if check == "appraise" {
		if err := list.Appraise(); err != nil {
			return nil, err
		}
	}
	replayed := list.Replay(ima.Bank(bank.String()))
	out := facts{"entries": strconv.Itoa(replayed.Entries), "violations": strconv.Itoa(replayed.Violations)}
	if want := c.get("pcr.10"); want != "" {
		return out, reaches(replayed, digestOf(want))
	}
	return out, nil
}

// reaches wants PCR 10 by either way in which kernels extend it.
func reaches(r ima.Replayed, want []byte) error {
	if len(want) != len(r.PCR10) {
		return reason.Newf(reason.TPM2PCRLength, "PCR %d has %d bytes, not the %d of its bank", imaPCR, len(want), len(r.PCR10))
	}
	if bytes.Equal(r.PCR10, want) || bytes.Equal(r.Padded, want) {
		return nil
	}
	return reason.Newf(reason.IMATruncated, "the list leads to %s in PCR %d and not to the value given", hex.EncodeToString(r.PCR10), imaPCR)
}
