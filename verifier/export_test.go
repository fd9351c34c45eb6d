package verifier

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"github.com/zonebroker/zonebroker/verifier/advisory"
	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/tpm2"
)

// MadeUp returns an Appraisal that nothing proved.
func MadeUp(format, key, manufacturer string, yes bool, clock tpm2.Clock, firmware uint64, findings []Finding) Appraisal {
	return Appraisal{
		format: format, class: format, key: key, authentic: yes, genuine: !yes, manufacturer: manufacturer,
		tpm:   TPMFacts{Model: key, Version: format, Expired: yes},
		clock: clock, firmware: firmware, findings: findings,
	}
}

// Denial returns a Finding that denies.
func Denial(check, code, detail string) Finding {
	return Finding{Check: check, Code: reason.Code(code), Detail: detail, Outcome: reason.Refused}
}

// Against returns the appraisal as another table of advisories would have it.
func Against(a Appraisal, table []advisory.Advisory) Appraisal {
	a.findings = slices.DeleteFunc(slices.Clone(a.findings), func(f Finding) bool { return f.Check == checkAdvisory })
	a.advise(table)
	return a
}

// CanonicalByLibrary is Canonical as encoding/json writes it.
func CanonicalByLibrary(a Appraisal) ([]byte, error) {
	type finding struct {
		Check  string `json:"check"`
		Code   string `json:"code"`
		Detail string `json:"detail"`
		Deny   bool   `json:"deny"`
	}
	out := struct {
		Format       string `json:"format"`
		Class        string `json:"class"`
		Key          string `json:"key"`
		Authentic    bool   `json:"authentic"`
		Genuine      bool   `json:"genuine"`
		Manufacturer string `json:"manufacturer"`
		TPM          struct {
			Model   string `json:"model"`
			Version string `json:"version"`
			Expired bool   `json:"expired"`
		} `json:"tpm"`
		PCRs       map[string]string `json:"pcrs"`
		Clock      string            `json:"clock"`
		Firmware   string            `json:"firmware"`
		SecureBoot string            `json:"secure_boot"`
		Boot       string            `json:"boot"`
		Findings   []finding         `json:"findings"`
	}{
		Format: a.format, Class: a.class, Key: a.key, Authentic: a.authentic, Genuine: a.genuine,
		Manufacturer: a.manufacturer, PCRs: make(map[string]string), SecureBoot: a.SecureBoot(),
		Clock:    fmt.Sprintf("%d/%d/%d/%t", a.clock.Millis, a.clock.ResetCount, a.clock.RestartCount, a.clock.Safe),
		Firmware: strconv.FormatUint(a.firmware, 10),
	}
	out.TPM.Model, out.TPM.Version, out.TPM.Expired = a.tpm.Model, a.tpm.Version, a.tpm.Expired
	if a.hasLog {
		d := a.Boot().Digest()
		out.Boot = hex.EncodeToString(d[:])
	}
	for i, v := range a.PCRs() {
		out.PCRs[strconv.Itoa(i)] = hex.EncodeToString(v)
	}
	if len(a.findings) > 0 {
		out.Findings = []finding{}
	}
	for _, f := range a.findings {
		if f.Check == checkAdvisory {
			continue
		}
		out.Findings = append(out.Findings, finding{f.Check, string(f.Code), f.Detail, f.Outcome == reason.Refused})
	}
	return json.Marshal(out)
}
