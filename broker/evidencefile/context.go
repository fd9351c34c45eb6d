package evidencefile

import (
	"slices"
	"strconv"
	"time"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/ekcert"
	"github.com/zonebroker/zonebroker/verifier/eventlog"
	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/tpm2"
	"github.com/zonebroker/zonebroker/verifier/x509chain"
)

// Trust is the configured trust of whoever writes a file: bundles of CA
// certificates and revocation lists as they stand in files, and the ids of
// makers beside the registry.
type Trust struct {
	Roots        [][]byte
	CRLs         [][]byte
	ExtraVendors []string
	Platforms    []verifier.TrustObject // what documents were judged by
}

// New makes the file of an attestation that was judged at the time at. Roots are
// left out where the evidence holds no EK certificate: nothing then asks for
// them, and they are many.
func New(ev verifier.Evidence, want verifier.Expectation, trust Trust, at time.Time) (api.EvidenceFile, error) {
	issued := want.IssuedAt.UTC()
	f := api.EvidenceFile{
		Version: api.EvidenceFileVersion, Format: ev.Format, Evidence: Members(ev),
		Context: api.EvidenceContext{
			Time: at.UTC(), Nonce: want.Nonce, Purpose: want.Purpose, TrustDomain: want.TrustDomain, RelyingNonce: want.Context,
			AKName: want.AKName, IssuedAt: &issued, RequireGenuine: want.RequireGenuine, Manufacturer: want.Manufacturer,
			Select: want.Selection.String(), ExtraVendors: trust.ExtraVendors,
		},
	}
	f.Context.AllowExpired = want.AllowExpired
	if want.TPM != (verifier.TPMFacts{}) {
		f.Context.TPM = (*api.EvidenceTPM)(&want.TPM)
	}
	if ev.TPM2 != nil && len(ev.TPM2.EKCertificate) > 0 {
		for _, r := range trust.Roots {
			f.Context.Roots = append(f.Context.Roots, string(r))
		}
		for _, l := range trust.CRLs {
			f.Context.CRLs = append(f.Context.CRLs, l)
		}
	}
	for _, o := range trust.Platforms {
		if slices.ContainsFunc(ev.Items, func(i verifier.Item) bool { return verifier.TrustedBy(i.Format, o.Kind) }) {
			f.Context.Trust = append(f.Context.Trust, api.EvidenceTrust{Kind: o.Kind, Name: o.Name, Bytes: o.Raw})
		}
	}
	if b := want.Baseline; b != nil {
		f.Context.Baseline = &api.EvidenceBaseline{
			Clock:      strconv.FormatUint(b.Clock.Millis, 10),
			ResetCount: int64(b.Clock.ResetCount), RestartCount: int64(b.Clock.RestartCount), Safe: b.Clock.Safe,
			Firmware: strconv.FormatUint(b.Firmware, 10), At: b.ClockAt.UTC(),
		}
		if b.Log != nil {
			f.Context.Baseline.EventLog = b.Log.Bytes()
		}
		known, err := b.IMA.MarshalText()
		if err != nil {
			return api.EvidenceFile{}, err
		}
		f.Context.Baseline.IMA = string(known)
	}
	return f, nil
}

// expectation is the other direction, of an attestation.
func expectation(x api.EvidenceContext) (verifier.Expectation, error) {
	sel, err := tpm2.ParseSelection(x.Select)
	if err != nil {
		return verifier.Expectation{}, err
	}
	want := verifier.Expectation{
		TrustDomain: x.TrustDomain, Purpose: x.Purpose, Nonce: x.Nonce, Context: x.RelyingNonce, AKName: x.AKName,
		Selection: sel, IssuedAt: *x.IssuedAt, RequireGenuine: x.RequireGenuine, AllowExpired: x.AllowExpired, Manufacturer: x.Manufacturer,
	}
	if x.TPM != nil {
		want.TPM = verifier.TPMFacts(*x.TPM)
	}
	if x.Baseline != nil {
		want.Baseline, err = baseline(x.Baseline)
	}
	return want, err
}

func baseline(b *api.EvidenceBaseline) (*verifier.Baseline, error) {
	millis, err1 := strconv.ParseUint(b.Clock, 10, 64)
	firmware, err2 := strconv.ParseUint(b.Firmware, 10, 64)
	reset, restart := uint32(b.ResetCount), uint32(b.RestartCount)
	if err1 != nil || err2 != nil || int64(reset) != b.ResetCount || int64(restart) != b.RestartCount {
		return nil, reason.New(reason.RequestMalformed, "/context/baseline: a number is out of range")
	}
	out := &verifier.Baseline{
		Clock:   tpm2.Clock{Millis: millis, ResetCount: reset, RestartCount: restart, Safe: b.Safe},
		ClockAt: b.At, Firmware: firmware,
	}
	if err := out.IMA.UnmarshalText([]byte(b.IMA)); err != nil {
		return nil, reason.Wrap(reason.RequestMalformed, "/context/baseline/ima: no state of a measurement list", err)
	}
	if len(b.EventLog) > 0 {
		out.Log = eventlog.Keep(b.EventLog)
	}
	return out, nil
}

func trust(x api.EvidenceContext) (verifier.Trust, error) {
	bundles := make([][]byte, 0, len(x.Roots))
	for _, r := range x.Roots {
		bundles = append(bundles, []byte(r))
	}
	roots, err := ekcert.NewRoots(bundles...)
	if err != nil {
		return verifier.Trust{}, reason.Wrap(reason.RequestMalformed, "/context/roots: "+err.Error(), err)
	}
	lists := make([][]byte, 0, len(x.CRLs))
	for _, l := range x.CRLs {
		lists = append(lists, l)
	}
	crls, err := x509chain.NewCRLs(lists...)
	if err != nil {
		return verifier.Trust{}, reason.Wrap(reason.RequestMalformed, "/context/crls: "+err.Error(), err)
	}
	var objects []verifier.TrustObject
	for _, o := range x.Trust {
		objects = append(objects, verifier.TrustObject{Kind: o.Kind, Name: o.Name, Raw: o.Bytes})
	}
	documents, err := verifier.NewDocuments(objects)
	if err != nil {
		return verifier.Trust{}, reason.Wrap(reason.RequestMalformed, "/context/trust: "+err.Error(), err)
	}
	return verifier.Trust{EKRoots: roots, CRLs: crls, ExtraVendors: x.ExtraVendors, Documents: documents}, nil
}
