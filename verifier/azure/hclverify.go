package azure

import (
	"encoding/hex"
	"slices"
	"strconv"
	"time"

	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/snp"
)

// Hardware is what signs the hardware report, as it came along: attacker bytes.
type Hardware struct {
	// Certificate is the VCEK of an SNP report, DER or PEM, nil where the trust has
	// one.
	Certificate []byte
	// TDQuote is the quote of the TD: the report inside is authenticated for its own
	// host only.
	TDQuote []byte
}

// HCLTrust is what HCL reports are judged by. The zero value trusts nobody.
type HCLTrust struct {
	SNP snp.Trust
	// TDX verifies a TD quote for a REPORTDATA of 64 bytes, and returns what it says;
	// nil refuses every one.
	TDX func(quote, reportData []byte, now time.Time) (document.Facts, error)
}

// paravisors are the firmware whose word on the runtime data counts. Anybody with
// a chip of the right kind can write runtime data and have it hashed into a genuine
// report; what says that Azure's paravisor did is the key that signed the guest's
// ID block (SNP: ID_KEY_DIGEST, which the chip fills in only where that signature
// over the launch digest verifies), or the launch digest itself (TDX: MRTD).
//
// Sources: the ID key digests are those that Azure's reports carried in 2022 to
// 2026, as published captures and the MAA tokens of others show them; MRTD is that
// of the one published quote.
var paravisors = map[TEE][]string{
	SNP: {
		"57486a447ec0f1958002a22a06b7673b9fd27d11e1c6527498056054c5fa92d23c50f9de44072760fe2b6fb89740b696",
		"934f68bd8ba01938eec21475c872e3a942b60c59fafc6df9e9a76ee66bc47f2d09c676f61c0315c578da26085fb13a71",
		"0356215882a825279a85b300b0b742931d113bf7e32dde2e50ffde7ec743ca491ecdd7f336dc28a6e0b2bb57af7a44a3",
		"942fd93ebde6ea7a96efadeafc60f1c6b3d10e703b1dafd7555b92f7f3d32d0e006767648cba5b102af3d65756af4177",
	},
	TDX: {
		"024a32b070383331181619fa387cb4d55d1e38879f989933055ccad5bc2db795d1737b66205949d15469dc8c1ba7ab7b",
	},
}

// CVM is a confidential machine of Azure whose hardware vouches for its runtime
// data. The zero value is none.
type CVM struct {
	claimed   ClaimedHCL
	hardware  document.Facts
	paravisor string // digest by which the paravisor is known
}

// VerifyHCL judges whether hardware made the report inside h at the time now.
//
// Errors: for SNP request.too_large, azure.hardware_missing where no VCEK came
// along and none is configured, those of snp.Verify, and snp.vmpl where the report
// is not of the paravisor's own level, 0: at any other the guest wrote it. For TDX
// request.too_large, azure.hardware_missing without a quote, and those of the TDX
// verifier. A paravisor that is not known here is a hazard, azure.runtime_data.
func VerifyHCL(h ClaimedHCL, with Hardware, trust HCLTrust, now time.Time) (CVM, error) {
	var c CVM
	var err error
	switch h.tee {
	case SNP:
		c, err = verifySNP(h, with.Certificate, trust.SNP, now)
	case TDX:
		c, err = verifyTD(h, with.TDQuote, trust, now)
	default:
		err = reason.New(reason.AzureHardwareMissing, "nothing was read")
	}
	if err != nil {
		return CVM{}, err
	}
	c.claimed = h
	return c, nil
}

func verifySNP(h ClaimedHCL, certificate []byte, trust snp.Trust, now time.Time) (CVM, error) {
	ev := snp.Evidence{Report: h.hardware, Certificate: certificate}
	if len(certificate) == 0 && !trust.Endorses(h.hardware) {
		return CVM{}, reason.New(reason.AzureHardwareMissing, "no VCEK came with the report, and none is configured for its chip and TCB")
	}
	a, err := snp.Verify(ev, h.bound[:], trust, now)
	if err != nil {
		return CVM{}, err
	}
	if a.VMPL() != 0 {
		return CVM{}, reason.New(reason.SNPVMPL, "the report was asked for at privilege level "+strconv.FormatUint(uint64(a.VMPL()), 10)+", which is not the paravisor's")
	}
	return CVM{hardware: a.Facts(), paravisor: hex.EncodeToString(a.IDKey())}, nil
}

func verifyTD(h ClaimedHCL, quote []byte, trust HCLTrust, now time.Time) (CVM, error) {
	switch {
	case len(quote) > MaxTDQuote:
		return CVM{}, reason.Newf(reason.RequestTooLarge, "a TD quote of more than %d bytes", MaxTDQuote)
	case len(quote) == 0:
		return CVM{}, reason.New(reason.AzureHardwareMissing, "a TDREPORT without a TD quote is authenticated for its own host only")
	case trust.TDX == nil:
		return CVM{}, reason.New(reason.TDXUntrusted, "no Intel root is configured")
	}
	f, err := trust.TDX(quote, h.bound[:], now)
	if err != nil {
		return CVM{}, err
	}
	c := CVM{hardware: f}
	if mrtd := f.Values("tdx.mrtd"); len(mrtd) == 1 {
		c.paravisor = mrtd[0]
	}
	return c, nil
}

// Facts returns what the report says: the machine, the attestation key of its
// vTPM, the paravisor's word on Secure Boot, and the selectors and hazards of its
// hardware. It was made for no challenge, so that it is a bearer document until a
// quote by its key says more.
func (c CVM) Facts() document.Facts {
	if c.claimed.tee == "" {
		return document.Facts{}
	}
	r := c.claimed.runtime
	f := document.Facts{
		Class: document.ClassC, AK: c.claimed.AK(),
		Machine:   document.Machine{Kind: document.MachineAzure, Name: r.vm},
		Selectors: slices.Clone(c.hardware.Selectors),
		Hazards:   slices.Clone(c.hardware.Hazards),
	}
	f.Own(document.OwnerAzureVM, r.vm)
	f.Pass("azure.cvm.runtime_data", "REPORT_DATA is its SHA-256")
	f.Findings = append(f.Findings, c.hardware.Findings...)
	f.Add("azure.vm_id", r.vm)
	f.Add("azure.cvm.tee", string(c.claimed.tee))
	f.Add("azure.cvm.paravisor", c.paravisor)
	f.Add("azure.cvm.root_certificate", r.config.RootCertificate)
	for name, v := range map[string]*bool{
		"secure_boot": r.config.SecureBoot, "tpm": r.config.TPM, "tpm_persisted": r.config.Persisted, "console": r.config.Console,
	} {
		if v != nil {
			f.Add("azure.cvm."+name, strconv.FormatBool(*v))
		}
	}
	if !allSame(r.user, 0) {
		f.Add("azure.cvm.user_data", hex.EncodeToString(r.user))
	}
	if !slices.Contains(paravisors[c.claimed.tee], c.paravisor) {
		f.Fear(reason.AzureRuntimeData, "the firmware that wrote the runtime data is not a known paravisor of Azure: "+c.paravisor)
	}
	f.Sort()
	return f
}
