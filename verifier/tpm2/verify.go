package tpm2

import (
	"bytes"

	"github.com/zonebroker/zonebroker/verifier/reason"
)

// Evidence is a quote with what belongs to it, as received.
type Evidence struct {
	// AKPublic is the TPMT_PUBLIC of the AK. Where only the key is known, AKKey
	// is its SubjectPublicKeyInfo (DER), and the attributes stay unchecked.
	AKPublic, AKKey []byte
	Attest          []byte // TPMS_ATTEST
	Signature       []byte // TPMT_SIGNATURE; see RawRSASSA
	PCRs            map[int][]byte
}

// Context is what a quote has to match.
type Context struct {
	Qualifying []byte // 1 to 64 bytes
	Selection  Selection
	Bank       Bank

	// Signer is the qualified name that was pinned for the AK; nil means that of
	// a primary key of the endorsement hierarchy. AnySigner accepts what the
	// quote says, for captures of machines whose pin nobody kept.
	Signer    []byte
	AnySigner bool
	// WithoutValues accepts a quote of which no PCR values are known: it then
	// proves a boot that nobody can name.
	WithoutValues bool
}

// Verify judges a quote and says what it found, check by check in their order,
// up to the first that failed. It is AuthenticateQuote and QuoteOf with the
// reasons: the verdict is theirs. Passed checks are listed too, with the bytes
// that decided. What the context left unchecked is listed as such, never as
// passed. The error is that of the refused finding, nil where there is none.
//
// Errors: those of ParseAK or AKFromSPKI, of AuthenticateQuote and of QuoteOf,
// in this order.
func Verify(ev Evidence, ctx Context) (Quote, []reason.Finding, error) {
	v := verification{ev: &ev, ctx: &ctx, findings: make([]reason.Finding, 0, 16)}
	q, err := v.run()
	return q, v.findings, err
}

// verification is one run of Verify.
type verification struct {
	ev       *Evidence
	ctx      *Context
	ak       AK
	a        *attest
	findings []reason.Finding
}

func (v *verification) run() (Quote, error) {
	var err error
	if v.ak, err = v.parseAK(); err != nil {
		return Quote{}, v.step(akChecks, err)
	}
	v.listAK()
	if err := v.step(signatureChecks, v.signature()); err != nil {
		return Quote{}, err
	}
	v.a, err = parseAttest(bytes.Clone(v.ev.Attest), typeQuote)
	if err := v.step(structureChecks, err); err != nil {
		return Quote{}, err
	}
	if err := v.step(signerChecks, v.signer()); err != nil {
		return Quote{}, err
	}
	if err := v.step(nonceChecks, checkQualifying(v.a, v.ctx.Qualifying)); err != nil {
		return Quote{}, err
	}
	if err := v.step(selectionChecks, v.a.checkSelection(v.ctx.Bank, v.ctx.Selection)); err != nil {
		return Quote{}, err
	}
	if v.ctx.WithoutValues {
		v.unchecked("tpm2.pcr.values", "no PCR values were given: nothing says what was booted")
		return Quote{clock: v.a.clock, firmware: v.a.firmware}, nil
	}
	q, err := Attested{a: v.a}.QuoteOf(v.ctx.Bank, v.ctx.Selection, v.ev.PCRs)
	return q, v.step(pcrChecks, err)
}

func (v *verification) parseAK() (AK, error) {
	if v.ev.AKPublic == nil && v.ev.AKKey != nil {
		return AKFromSPKI(v.ev.AKKey)
	}
	return ParseAK(v.ev.AKPublic)
}

func (v *verification) listAK() {
	if v.ak.public != nil {
		_ = v.step(akChecks, nil)
		return
	}
	v.add(reason.Finding{Check: "tpm2.ak.form", Detail: "one SubjectPublicKeyInfo", Part: "ak_key", Bytes: v.ev.AKKey})
	v.unchecked("tpm2.ak.attributes", "the key was given without its attributes: nothing says that it is restricted to what its TPM made")
	v.add(reason.Finding{Check: "tpm2.ak.parameters", Detail: "key, size and curve are allowed; the scheme is assumed", Part: "ak_key", Bytes: v.ev.AKKey})
}

func (v *verification) signature() error {
	if err := checkAttestSize(v.ev.Attest); err != nil {
		return err
	}
	if isVersion1Quote(v.ev.Attest) {
		return errVersion1Quote()
	}
	return verifySignature(&v.ak, v.ev.Attest, v.ev.Signature)
}

func (v *verification) signer() error {
	want := v.ctx.Signer
	if want == nil {
		want = v.ak.qualified
	}
	if v.ctx.AnySigner {
		return nil
	}
	return checkSigner(v.a, want)
}

func (v *verification) add(f reason.Finding) { v.findings = append(v.findings, f) }

func (v *verification) unchecked(check, detail string) {
	v.add(reason.Finding{Check: check, Outcome: reason.Unchecked, Detail: detail})
}

// step lists the checks of one step: all of them where err is nil, else those
// before the one that failed, and that. It returns err.
func (v *verification) step(checks []check, err error) error {
	code := reason.Of(err)
	for i := range checks {
		c := &checks[i]
		f := reason.Finding{Check: c.name, Detail: c.passed, Part: c.part}
		if c.span != nil {
			f.Offset, f.Bytes = c.span(v)
		}
		last := err != nil && (i == len(checks)-1 || c.fails(code))
		switch {
		case last:
			f.Outcome, f.Code, f.Detail = reason.Refused, code, reason.Detail(err)
		case c.name == "tpm2.quote.signer" && v.ctx.AnySigner:
			f.Outcome, f.Detail = reason.Unchecked, "no qualified name was pinned: the AK may live in any hierarchy"
		}
		v.add(f)
		if last {
			return err
		}
	}
	return err
}
