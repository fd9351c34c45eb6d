package tdx

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"time"

	"github.com/zonebroker/zonebroker/verifier/reason"
)

// Expectation is what a quote is asked for. The zero value asks for nothing but a
// genuine TDX quote, which then proves no freshness.
type Expectation struct {
	// ReportData is what REPORTDATA has to be, 64 bytes, or how it has to begin; nil
	// asks for nothing.
	ReportData []byte
	// EventLog is the guest's CCEL, nil for none. It has to lead to the quoted RTMRs.
	EventLog []byte
}

// Quote is a TDX quote that was verified. The zero value vouches for nothing.
type Quote struct {
	version  uint16
	body     body // a copy
	platform platform
	level    level
	number   int // of Intel's evaluation
	until    time.Time
	bound    bool
	logged   bool   // an event log led to the RTMRs
	boot     string // Secure Boot by that log, "" for nothing sure
}

// Verify judges a quote under trust at the time now. What is genuine and unwanted
// (a debug guest, a level that is not UpToDate) is no error here but a hazard of
// Facts.
//
// Errors, in the order of the checks: request.too_large, tdx.header,
// tdx.malformed; for the chain of the PCK tdx.untrusted, tdx.validity;
// tdx.signature; tdx.malformed for reserved attributes; tdx.collateral_missing,
// tdx.collateral_signature, tdx.collateral_mismatch, tdx.collateral_expired,
// tdx.untrusted for a revoked certificate; tdx.collateral_mismatch for another
// platform, enclave or module; tdx.tcb_status for a revoked level or one that
// Intel does not name, tdx.debug in place of all since tdx.collateral_missing but
// tdx.untrusted for a debug guest; tdx.report_data; tdx.malformed for what is no fill behind the
// quote; and for the event log those of ReplayLog.
func Verify(raw []byte, want Expectation, trust Trust, now time.Time) (Quote, error) {
	if len(want.EventLog) > MaxEventLog {
		return Quote{}, errLogTooLarge(len(want.EventLog))
	}
	q, err := Parse(raw)
	if err != nil {
		return Quote{}, err
	}
	chain, err := checkPCK(q.chain, trust.roots, now)
	if err != nil {
		return Quote{}, err
	}
	p, err := readPlatform(chain[0])
	if err != nil {
		return Quote{}, err
	}
	if err := q.checkSignatures(chain[0].PublicKey); err != nil {
		return Quote{}, err
	}
	if err := q.body.checkAttributes(); err != nil {
		return Quote{}, err
	}
	out := Quote{version: q.version, body: bytes.Clone(q.body), platform: p, bound: want.ReportData != nil}
	if err := out.place(&q, chain, trust, now); err != nil {
		return Quote{}, err
	}
	if want.ReportData != nil && (len(want.ReportData) == 0 || !bytes.HasPrefix(q.body.reportData(), want.ReportData)) {
		return Quote{}, reason.Newf(reason.TDXReportData, "REPORTDATA is %x, expected %x", q.body.reportData(), want.ReportData)
	}
	if !isFill(q.behind) {
		return Quote{}, reason.New(reason.TDXMalformed, "bytes that nobody signed stand behind the quote, and they are no fill")
	}
	if want.EventLog != nil {
		if out.boot, err = q.ReplayLog(want.EventLog); err != nil {
			return Quote{}, err
		}
		out.logged = true
	}
	return out, nil
}

// place finds the level of the platform by its collateral. Where that fails for a
// guest that the host can look into, this is what is wrong with it: other
// collateral, which an operator would fetch, would not make it better. A revoked
// certificate comes before: what it signed need not be true.
func (q *Quote) place(claimed *Claimed, chain []*x509.Certificate, trust Trust, now time.Time) error {
	err := q.judge(claimed, chain, trust, now)
	if err != nil && q.Debug() && reason.Of(err) != reason.TDXUntrusted {
		return reason.Wrap(reason.TDXDebug, q.debugDetail()+"; besides, "+err.Error(), err)
	}
	return err
}

func (q *Quote) judge(claimed *Claimed, chain []*x509.Certificate, trust Trust, now time.Time) error {
	c, err := trust.collateralFor(&q.platform)
	if err != nil {
		return err
	}
	if err := c.check(chain, now); err != nil {
		return err
	}
	if q.level, err = c.judge(q.body, enclave(claimed.enclave), &q.platform); err != nil {
		return err
	}
	q.number, q.until = min(c.tcb.Evaluation, c.qe.Evaluation), c.end
	return nil
}

// checkSignatures verifies the quoting enclave's report under the PCK, that the
// report names the attestation key and nothing else, and the quote under this key.
func (q *Claimed) checkSignatures(pck any) error {
	key, ok := pck.(*ecdsa.PublicKey)
	if !ok || !verifyRaw(key, q.enclave, q.enclaveBy) {
		return reason.New(reason.TDXSignature, "the report of the quoting enclave is not signed by the PCK")
	}
	named := sha256.Sum256(append(bytes.Clone(q.key), q.auth...))
	data := enclave(q.enclave).reportData()
	if !bytes.Equal(data[:32], named[:]) || !bytes.Equal(data[32:], make([]byte, 32)) {
		return reason.New(reason.TDXSignature, "the quoting enclave vouches for another attestation key")
	}
	attestation, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append([]byte{4}, q.key...))
	if err != nil {
		return reason.Wrap(reason.TDXSignature, "the attestation key is no point on P-256", err)
	}
	if !verifyRaw(attestation, q.signed, q.signature) {
		return reason.New(reason.TDXSignature, "the quote is not signed by its attestation key")
	}
	return nil
}
