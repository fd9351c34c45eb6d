package evidencefile_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/evidencefile"
	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/eventlog/build"
	"github.com/zonebroker/zonebroker/verifier/evidencetest"
	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/tpm2"
)

// capture makes the file of a quote with log, EK certificate and certified key,
// all of them good.
func capture(t testing.TB) (api.EvidenceFile, *evidencetest.TPM) {
	t.Helper()
	p := evidencetest.New(t)
	return captureOf(t, p), p
}

func captureOf(t testing.TB, p *evidencetest.TPM) api.EvidenceFile {
	t.Helper()
	key, maker := evidencetest.NewSVIDKey(t), evidencetest.NewMaker(t)
	maker.Endorse(t, p)
	bound := bytes.Repeat([]byte{7}, 32)
	attest, sig := p.Quote(t, evidencetest.Selection, bound)
	ev := verifier.Evidence{Format: verifier.FormatTPM2, TPM2: &verifier.TPM2Evidence{
		AKPublic: p.AK.Public, EKPublic: p.EK.Public, EKCertificate: p.EKCertificate, EKChain: p.EKChain,
		Quote: attest, Signature: sig, PCRs: p.Values(evidencetest.Selection), EventLog: p.EventLog,
		Certify: p.Certify(t, key, bound),
	}}
	return api.EvidenceFile{
		Version: api.EvidenceFileVersion, Format: ev.Format, Evidence: evidencefile.Members(ev),
		Context: api.EvidenceContext{
			Time: evidencetest.Noon, Qualifying: bound, Select: evidencetest.Selection.String(), Roots: []string{string(maker.PEM())},
		},
	}
}

// read writes a file and reads it again.
func read(t testing.TB, f api.EvidenceFile) api.EvidenceFile {
	t.Helper()
	raw, err := api.Encode(f)
	if err != nil {
		t.Fatal(err)
	}
	out, err := evidencefile.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func outcome(findings []reason.Finding, check string) string {
	for _, f := range findings {
		if f.Check == check {
			return f.Outcome.String()
		}
	}
	return "not listed"
}

func TestCaptureAccepted(t *testing.T) {
	f, p := capture(t)
	v, err := evidencefile.Judge(read(t, f))
	if err != nil || v.Refusal != nil {
		t.Fatal(err, v.Refusal)
	}
	if len(v.PCRs) != 11 || len(v.Boot.Facts()) == 0 || !v.Same || v.Appraisal != "" {
		t.Errorf("%+v", v)
	}
	for check, want := range map[string]string{
		"tpm2.quote.nonce": "passed", "tpm2.pcr.digest": "passed", "eventlog": "passed", "ekcert": "passed", "key": "passed",
		"ekcert.key": "not listed", "expected_pcrs": "not listed",
	} {
		if got := outcome(v.Findings, check); got != want {
			t.Errorf("%s: %s, want %s", check, got, want)
		}
	}
	other := map[string]api.Bytes{"0": make([]byte, 32)}
	good := map[string]api.Bytes{"7": p.PCRs[7][:], "0": p.PCRs[0][:]}
	f.Context.ExpectedPCRs = []map[string]api.Bytes{other, good}
	if v, _ := evidencefile.Judge(read(t, f)); v.Refusal != nil || outcome(v.Findings, "expected_pcrs") != "passed" {
		t.Errorf("second set: %v", v.Refusal)
	}
}

func TestCaptureWithLess(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*api.EvidenceFile, *evidencetest.TPM)
		check  string
	}{
		"no log":    {func(f *api.EvidenceFile, _ *evidencetest.TPM) { f.Evidence.TPM2.EventLog = nil }, "eventlog"},
		"no values": {func(f *api.EvidenceFile, _ *evidencetest.TPM) { f.Context.WithoutPCRs = true }, "tpm2.pcr.values"},
		"no EK":     {func(f *api.EvidenceFile, _ *evidencetest.TPM) { f.Evidence.TPM2.EKPublic = nil }, "ekcert.key"},
		"no pin":    {func(f *api.EvidenceFile, _ *evidencetest.TPM) { f.Context.AnySigner = true }, "tpm2.quote.signer"},
		"no attributes": {func(f *api.EvidenceFile, p *evidencetest.TPM) {
			f.Context.AKKey, f.Context.AnySigner, f.Evidence.TPM2.AKPublic = p.AK.SPKI(t), true, nil
		}, "tpm2.ak.attributes"},
	} {
		t.Run(name, func(t *testing.T) {
			f, p := capture(t)
			c.change(&f, p)
			v, err := evidencefile.Judge(read(t, f))
			if err != nil || v.Refusal != nil {
				t.Fatal(err, v.Refusal)
			}
			if got := outcome(v.Findings, c.check); got != "unchecked" {
				t.Errorf("%s: %s", c.check, got)
			}
		})
	}
}

func TestCaptureRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*api.EvidenceFile, *evidencetest.TPM)
		want   reason.Code
	}{
		"nonce":  {func(f *api.EvidenceFile, _ *evidencetest.TPM) { f.Context.Qualifying[0] ^= 1 }, reason.TPM2QuoteNonceMismatch},
		"mask":   {func(f *api.EvidenceFile, _ *evidencetest.TPM) { f.Context.Select = "ff0000" }, reason.TPM2QuoteSelection},
		"bank":   {func(f *api.EvidenceFile, _ *evidencetest.TPM) { f.Context.Bank = "sha384" }, reason.TPM2PCRBank},
		"signer": {func(f *api.EvidenceFile, _ *evidencetest.TPM) { f.Context.Signer = []byte("other") }, reason.TPM2QuoteSignerMismatch},
		"log": {func(f *api.EvidenceFile, _ *evidencetest.TPM) {
			f.Evidence.TPM2.EventLog = f.Evidence.TPM2.EventLog[:99]
		}, reason.EventLogTruncated},
		"no roots": {func(f *api.EvidenceFile, _ *evidencetest.TPM) { f.Context.Roots = nil }, reason.EKCertUntrusted},
		"late":     {func(f *api.EvidenceFile, _ *evidencetest.TPM) { f.Context.Time = f.Context.Time.AddDate(50, 0, 0) }, reason.EKCertValidity},
		"other EK": {func(f *api.EvidenceFile, _ *evidencetest.TPM) {
			f.Evidence.TPM2.EKPublic = evidencetest.NewEK(t).Public
		}, reason.EKCertKeyMismatch},
		"no EK":     {func(f *api.EvidenceFile, _ *evidencetest.TPM) { f.Evidence.TPM2.EKPublic = []byte("x") }, reason.TPM2EKEncoding},
		"certify":   {func(f *api.EvidenceFile, _ *evidencetest.TPM) { f.Evidence.TPM2.Certify.Public[4] ^= 1 }, reason.TPM2CertifyMismatch},
		"raw":       {func(f *api.EvidenceFile, _ *evidencetest.TPM) { f.Context.RawRSASSA = true }, reason.TPM2SignatureScheme},
		"PCR value": {func(f *api.EvidenceFile, _ *evidencetest.TPM) { f.Evidence.TPM2.PCRs["3"][0] ^= 1 }, reason.TPM2PCRDigest},
		"expected": {func(f *api.EvidenceFile, _ *evidencetest.TPM) {
			f.Context.ExpectedPCRs = []map[string]api.Bytes{{"0": make([]byte, 32)}}
		}, reason.PolicyPCRMismatch},
		"expected, not quoted": {func(f *api.EvidenceFile, _ *evidencetest.TPM) {
			f.Context.ExpectedPCRs = []map[string]api.Bytes{{"23": make([]byte, 32)}}
		}, reason.PolicyPCRMismatch},
	} {
		t.Run(name, func(t *testing.T) {
			f, p := capture(t)
			c.change(&f, p)
			v, err := evidencefile.Judge(read(t, f))
			if err != nil || reason.Of(v.Refusal) != c.want {
				t.Fatalf("%v %v, want %s", err, v.Refusal, c.want)
			}
			if n := refused(v.Findings, c.want); n != 1 {
				t.Errorf("%d findings are refused with %s", n, c.want)
			}
		})
	}
}

func refused(findings []reason.Finding, code reason.Code) int {
	n := 0
	for _, f := range findings {
		if f.Outcome == reason.Refused && f.Code == code {
			n++
		}
	}
	return n
}

// attestation makes the file of an enrolment.
func attestation(t testing.TB) api.EvidenceFile {
	t.Helper()
	return attestationOf(t, evidencetest.New(t))
}

func attestationOf(t testing.TB, p *evidencetest.TPM) api.EvidenceFile {
	t.Helper()
	key, maker := evidencetest.NewSVIDKey(t), evidencetest.NewMaker(t)
	maker.Endorse(t, p)
	want := verifier.Expectation{
		TrustDomain: "example.org", Purpose: verifier.PurposeEnrol, Nonce: bytes.Repeat([]byte{1}, 32), AKName: p.AK.Name(),
		Selection: evidencetest.Selection, IssuedAt: evidencetest.Noon, RequireGenuine: true,
		Baseline: &verifier.Baseline{Clock: tpm2.Clock{Millis: p.Clock.Millis, ResetCount: p.Clock.ResetCount, Safe: true}, ClockAt: evidencetest.Noon, Firmware: p.Firmware},
	}
	f, err := evidencefile.New(p.Evidence(t, want, key), want, evidencefile.Trust{Roots: [][]byte{maker.PEM()}}, evidencetest.Noon)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestAttestation(t *testing.T) {
	f := read(t, attestation(t))
	v, err := evidencefile.Judge(f)
	if err != nil || v.Refusal != nil || v.Appraisal == "" || !v.Same {
		t.Fatal(err, v.Refusal)
	}
	for check, want := range map[string]string{"tpm2.quote.nonce": "passed", "tpm2.quote": "not listed", "tpm2.pcrs": "not listed", "ekcert": "passed", "tpm2.clock": "passed"} {
		if got := outcome(v.Findings, check); got != want {
			t.Errorf("%s: %s, want %s", check, got, want)
		}
	}
	f.Recorded = &api.RecordedVerdict{ID: "x", Verdict: "allow", Appraisal: v.Appraisal}
	if v, _ := evidencefile.Judge(f); !v.Same {
		t.Error("the recorded appraisal is not its own")
	}
	f.Recorded.Appraisal = "sha256:00"
	if v, _ := evidencefile.Judge(f); v.Same {
		t.Error("another appraisal was recorded")
	}
}

func TestAttestationRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*api.EvidenceFile)
		want   reason.Code
		check  string
	}{
		"nonce":    {func(f *api.EvidenceFile) { f.Context.Nonce[0] ^= 1 }, reason.TPM2AKActivationFailed, "attestation"},
		"other AK": {func(f *api.EvidenceFile) { f.Context.AKName[5] ^= 1 }, reason.ChallengeWrongNode, "attestation"},
		"domain":   {func(f *api.EvidenceFile) { f.Context.TrustDomain, f.Context.Purpose = "b", "renew" }, reason.TPM2QuoteNonceMismatch, "tpm2.quote.nonce"},
		"value":    {func(f *api.EvidenceFile) { f.Evidence.TPM2.PCRs["3"][0] ^= 1 }, reason.TPM2PCRDigest, "tpm2.pcr.digest"},
		"log":      {func(f *api.EvidenceFile) { f.Evidence.TPM2.EventLog = nil }, reason.EventLogMissing, "eventlog"},
		"clock":    {func(f *api.EvidenceFile) { f.Context.Baseline.ResetCount = 99 }, reason.TPM2RolledBack, "tpm2.clock"},
		"roots":    {func(f *api.EvidenceFile) { f.Context.Roots = nil }, reason.EKCertUntrusted, "ekcert"},
	} {
		t.Run(name, func(t *testing.T) {
			f := attestation(t)
			c.change(&f)
			v, err := evidencefile.Judge(read(t, f))
			if err != nil || reason.Of(v.Refusal) != c.want {
				t.Fatalf("%v %v, want %s", err, v.Refusal, c.want)
			}
			if outcome(v.Findings, c.check) != "refused" || refused(v.Findings, c.want) != 1 {
				t.Errorf("%+v", v.Findings)
			}
		})
	}
}

// TestFilesThatSayNothing: a mistake of the file is no verdict about evidence.
func TestFilesThatSayNothing(t *testing.T) {
	for name, change := range map[string]func(*api.EvidenceFile){
		"version":           func(f *api.EvidenceFile) { f.Version = "2" },
		"format":            func(f *api.EvidenceFile) { f.Format = "TPM" },
		"no evidence":       func(f *api.EvidenceFile) { f.Evidence.TPM2 = nil },
		"both nonces":       func(f *api.EvidenceFile) { f.Context.Nonce = []byte("n") },
		"no nonce":          func(f *api.EvidenceFile) { f.Context.Qualifying = nil },
		"no AK":             func(f *api.EvidenceFile) { f.Evidence.TPM2.AKPublic = nil },
		"mask":              func(f *api.EvidenceFile) { f.Context.Select = "ff" },
		"bank":              func(f *api.EvidenceFile) { f.Context.Bank = "sha1" },
		"purpose":           func(f *api.EvidenceFile) { f.Context.Purpose = "other" },
		"index":             func(f *api.EvidenceFile) { f.Context.ExpectedPCRs = []map[string]api.Bytes{{"07": nil}} },
		"time":              func(f *api.EvidenceFile) { f.Context.Time = time.Time{} },
		"nonce without key": func(f *api.EvidenceFile) { f.Context.Qualifying, f.Context.Nonce = nil, []byte("n") },
	} {
		t.Run(name, func(t *testing.T) {
			f, _ := capture(t)
			change(&f)
			if err := f.Validate(); reason.Of(err) != reason.RequestMalformed {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestParse(t *testing.T) {
	f, _ := capture(t)
	raw, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		raw  string
		want reason.Code
	}{
		"good":    {string(raw), ""},
		"unknown": {strings.Replace(string(raw), `{"version"`, `{"x":1,"version"`, 1), reason.RequestMalformed},
		"twice":   {strings.Replace(string(raw), `{"version"`, `{"version":"zonebroker-evidence-1","version"`, 1), reason.RequestMalformed},
		"large":   {strings.Repeat(" ", api.MaxEvidenceFile+1), reason.RequestTooLarge},
		"nothing": {"", reason.RequestMalformed},
	} {
		if _, err := evidencefile.Parse([]byte(c.raw)); reason.Of(err) != c.want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestJudgeWantsAWholeContext(t *testing.T) {
	for name, change := range map[string]func(*api.EvidenceFile){
		"roots":    func(f *api.EvidenceFile) { f.Context.Roots = []string{"no PEM"} },
		"crls":     func(f *api.EvidenceFile) { f.Context.CRLs = []api.Bytes{{1}} },
		"clock":    func(f *api.EvidenceFile) { f.Context.Baseline.Clock = "-1" },
		"firmware": func(f *api.EvidenceFile) { f.Context.Baseline.Firmware = "x" },
		"IMA":      func(f *api.EvidenceFile) { f.Context.Baseline.IMA = "{}" },
		"counter":  func(f *api.EvidenceFile) { f.Context.Baseline.RestartCount = 1 << 32 },
		"negative": func(f *api.EvidenceFile) { f.Context.Baseline.ResetCount = -1 },
	} {
		f := attestation(t)
		change(&f)
		if _, err := evidencefile.Judge(f); reason.Of(err) != reason.RequestMalformed {
			t.Errorf("%s: %v", name, err)
		}
	}
	f, _ := capture(t)
	f.Format = "sgx"
	if _, err := evidencefile.Judge(f); reason.Of(err) != reason.RequestUnknownFormat {
		t.Errorf("format: %v", err)
	}
}

// FuzzJudge: no file makes the judge stumble, and what it accepts is a quote
// over what the context asked for.
func FuzzJudge(f *testing.F) {
	for _, file := range []func(testing.TB, *evidencetest.TPM) api.EvidenceFile{attestationOf, captureOf} {
		p := evidencetest.New(f)
		short := build.New() // a log of the usual length is a file that the fuzzer cannot do much with
		short.FirmwareVersion("v1")
		short.Separator(0, 1, 2, 3, 4, 5, 6, 7)
		p.Boot(short)
		raw, err := api.Encode(file(f, p))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var v evidencefile.Verdict
		var err error
		evidencetest.Bounded(t, len(raw), 64, func() {
			var file api.EvidenceFile
			if file, err = evidencefile.Parse(raw); err == nil {
				v, err = evidencefile.Judge(file)
			}
		})
		if err != nil || v.Refusal != nil {
			return
		}
		for _, finding := range v.Findings {
			if finding.Outcome == reason.Refused {
				t.Errorf("accepted with %+v", finding)
			}
		}
	})
}
