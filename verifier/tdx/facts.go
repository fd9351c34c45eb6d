package tdx

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// ReportData returns REPORTDATA, 64 bytes; the slice is the caller's.
func (q Quote) ReportData() []byte {
	if q.body == nil {
		return nil
	}
	return append([]byte(nil), q.body.reportData()...)
}

// Status returns Intel's word for the level, one of the Status constants; "" of
// the zero Quote.
func (q Quote) Status() string { return q.level.status }

// Debug reports whether the host can read the guest: a bit of the group that
// makes a TD untrusted is set.
func (q Quote) Debug() bool { return q.body != nil && q.body.attributeBits()&attrUntrusted != 0 }

func (q Quote) debugDetail() string {
	return fmt.Sprintf("TD attributes 0x%x let the host look into the guest", q.body.attributeBits())
}

// Facts returns what the quote proved: class A with REPORTDATA asked for, class C
// else. Selectors are named in docs/evidence/tdx.md; registers are hex, lower
// case, in the order of their bytes.
func (q Quote) Facts() document.Facts {
	f := document.Facts{Class: document.ClassC}
	if q.body == nil {
		return f
	}
	f.Pass("tdx.signature", "quote, quoting enclave and PCK chain to the Intel root")
	if q.bound {
		f.Class, f.NonceBound, f.KeyBound = document.ClassA, true, true
		f.Pass("tdx.report_data", "REPORTDATA is the binding")
	}
	f.Pass("tdx.collateral", "signed by Intel and good until "+q.until.UTC().Format(time.RFC3339))
	b := q.body
	f.Own(document.OwnerTDXConfig, nonZero(b.mrConfigID()))
	f.Own(document.OwnerTDXImage, nonZero(b.mrTD()))
	q.addRegisters(&f)
	q.addLevel(&f)
	if q.Debug() {
		f.Fear(reason.TDXDebug, q.debugDetail())
	}
	if q.level.status != StatusUpToDate {
		f.Fear(reason.TDXTCBStatus, "the TCB level is "+q.level.status+" "+strings.Join(q.level.advisories, " "))
	}
	if q.logged {
		f.Pass("tdx.event_log", "the log leads to RTMR 0 to 3")
		f.Add("tdx.event_log", "explained")
		f.Add("tdx.secure_boot", q.boot)
	}
	f.Sort()
	return f
}

func (q Quote) addRegisters(f *document.Facts) {
	b := q.body
	f.Add("tdx.version", strconv.Itoa(int(q.version)))
	f.Add("tdx.mrtd", hex.EncodeToString(b.mrTD()))
	for i := range RTMRs {
		f.Add("tdx.rtmr."+strconv.Itoa(i), hex.EncodeToString(b.rtmr(i)))
	}
	f.Add("tdx.mrconfigid", hex.EncodeToString(b.mrConfigID()))
	f.Add("tdx.mrowner", hex.EncodeToString(b.mrOwner()))
	f.Add("tdx.mrownerconfig", hex.EncodeToString(b.mrOwnerConfig()))
	f.Add("tdx.mrseam", hex.EncodeToString(b.mrSeam()))
	f.Add("tdx.mrservicetd", hex.EncodeToString(b.mrServiceTD()))
	f.Add("tdx.attributes", hex.EncodeToString(b.attributes()))
	f.Add("tdx.xfam", hex.EncodeToString(b.xfam()))
	f.Add("tdx.debug", strconv.FormatBool(q.Debug()))
	f.Add("tdx.sept_ve_disable", strconv.FormatBool(b.attributeBits()&attrSeptVEDisable != 0))
	f.Add("tdx.migratable", strconv.FormatBool(b.attributeBits()&attrMigratable != 0))
}

func (q Quote) addLevel(f *document.Facts) {
	f.Add("tdx.fmspc", hex.EncodeToString(q.platform.fmspc[:]))
	f.Add("tdx.tee_tcb_svn", hex.EncodeToString(q.body.teeTCBSVN()))
	f.Add("tdx.tcb_status", q.level.status)
	f.Add("tdx.tcb_date", q.level.date.UTC().Format(time.DateOnly))
	f.Add("tdx.tcb_evaluation", strconv.Itoa(q.number))
	for _, a := range q.level.advisories {
		f.Add("tdx.advisory", a)
	}
}

// nonZero: a register that nobody set is the same for everyone, and no owner.
func nonZero(b []byte) string {
	for _, v := range b {
		if v != 0 {
			return hex.EncodeToString(b)
		}
	}
	return ""
}
