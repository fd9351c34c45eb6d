package nvidia

import (
	"bytes"
	"fmt"
	"time"

	"github.com/zonebroker/zonebroker/verifier/jwt"
	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/x509chain"
)

// Forms of evidence.
const (
	FormSPDM = "spdm" // the devices' own reports
	FormEAT  = "eat"  // detached EAT of NVIDIA's service
)

// Trust is the configured trust for NVIDIA's devices. The zero value trusts
// nobody.
type Trust struct {
	roots   x509chain.Roots
	rims    map[rimKey]rim
	issuers jwt.Issuers
}

// NewTrust reads trust: roots of devices in PEM, reference measurements by the
// name of their trust object (JSON, docs/evidence/nvidia.md has the form), and the
// issuers of tokens, made with Profile. Two sets of references for one kind, chip
// and version are an error: either could be the stale one.
func NewTrust(roots [][]byte, rims map[string][]byte, issuers jwt.Issuers) (Trust, error) {
	r, err := x509chain.NewRoots(roots...)
	if err != nil {
		return Trust{}, fmt.Errorf("nvidia: %w", err)
	}
	t := Trust{roots: r, rims: make(map[rimKey]rim, len(rims)), issuers: issuers}
	for name, raw := range rims {
		set, err := readRIM(raw)
		if err != nil {
			return Trust{}, fmt.Errorf("nvidia: reference measurements %q: %w", name, err)
		}
		key := rimKey{set.Kind, set.Chip, set.Version}
		if _, twice := t.rims[key]; twice {
			return Trust{}, fmt.Errorf("nvidia: reference measurements %q: a second set for %s %s of %s", name, set.Kind, set.Version, set.Chip)
		}
		t.rims[key] = set
	}
	return t, nil
}

// Expectation is what evidence is asked for.
type Expectation struct {
	// Nonce is what every device was asked with, 32 bytes; nil asks for none, and the
	// evidence then proves no freshness.
	Nonce []byte
	// IssuedAt is when the challenge was made; a token issued before it was not made
	// for it. Zero: not compared.
	IssuedAt time.Time
}

// Evidence is verified evidence of devices. The zero value vouches for nothing.
type Evidence struct {
	form            string
	bound           bool
	issued, expires time.Time // of the tokens
	devices         []deviceFacts
}

// deviceFacts is what is known about one device. unjudged says why its measurements
// were compared with nothing, "" where they were.
type deviceFacts struct {
	hardware, id, driver, vbios string
	unjudged                    string
}

// Verify judges evidence in either form, which its JSON tells: a list of objects is
// SPDM, a list that begins with a list a detached EAT. Stages come one after the
// other for all devices, so that the refusal does not depend on their order.
//
// A device without configured reference measurements is genuine, and a hazard of
// Facts (nvidia.rim_missing): what it runs is not known.
//
// Errors, in the order of the checks: request.too_large, nvidia.malformed; for
// reports nvidia.untrusted, nvidia.signature, nvidia.nonce_mismatch,
// nvidia.result; for tokens those of package jwt for the
// overall one, nvidia.submodule_digest, those of jwt for the devices',
// nvidia.nonce_mismatch, nvidia.result.
func Verify(raw []byte, want Expectation, trust Trust, now time.Time) (Evidence, error) {
	if len(raw) > MaxEvidence {
		return Evidence{}, reason.Newf(reason.RequestTooLarge, "evidence of %d bytes, at most %d are read", len(raw), MaxEvidence)
	}
	if isBundle(raw) {
		return trust.verifyBundle(raw, want, now)
	}
	return trust.verifyReports(raw, want, now)
}

// isBundle looks at the second token: whatever is neither form is refused by the
// parser of reports.
func isBundle(raw []byte) bool {
	rest, ok := bytes.CutPrefix(bytes.TrimSpace(raw), []byte{'['})
	return ok && bytes.HasPrefix(bytes.TrimSpace(rest), []byte{'['})
}

func (t Trust) verifyReports(raw []byte, want Expectation, now time.Time) (Evidence, error) {
	reports, err := parseReports(raw)
	if err != nil {
		return Evidence{}, err
	}
	seen := map[string]bool{}
	for i := range reports {
		r := &reports[i]
		if err := r.checkChain(t.roots, now); err != nil {
			return Evidence{}, err
		}
		// One device that is shown twice would count as two.
		key := string(r.chain[0].RawSubjectPublicKeyInfo)
		if seen[key] {
			return Evidence{}, reason.Newf(reason.NvidiaMalformed, "device %d stands in the evidence twice", i)
		}
		seen[key] = true
	}
	for i := range reports {
		if !reports[i].verify() {
			return Evidence{}, reason.Newf(reason.NvidiaSignature, "the report of device %d is not signed by its key", i)
		}
	}
	for i := range reports {
		if want.Nonce != nil && !bytes.Equal(reports[i].nonce, want.Nonce) {
			return Evidence{}, reason.Newf(reason.NvidiaNonceMismatch, "device %d was asked with nonce %x, expected %x", i, reports[i].nonce, want.Nonce)
		}
	}
	out := Evidence{form: FormSPDM, bound: want.Nonce != nil}
	for i := range reports {
		missing, err := t.judge(&reports[i])
		if err != nil {
			return Evidence{}, err
		}
		d := reports[i].facts()
		d.unjudged = missing
		out.devices = append(out.devices, d)
	}
	return out, nil
}

func (r *report) facts() deviceFacts {
	return deviceFacts{hardware: r.hardware(), id: r.chain[0].SerialNumber.String(), driver: r.driver, vbios: r.vbios}
}
