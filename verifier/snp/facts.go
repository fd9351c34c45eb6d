package snp

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"

	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// Facts returns what the report says. The zero Attestation says nothing.
//
// Bound means that the caller expected a REPORT_DATA: its first half is then an
// anchor of kind document.AnchorReport, and its second, where it is not zero, one
// of kind document.AnchorAK, as document.ReportData lays them out.
func (a Attestation) Facts() document.Facts {
	if len(a.report.raw) == 0 {
		return document.Facts{}
	}
	f := document.Facts{Class: document.ClassC}
	if a.bound {
		f.Class, f.NonceBound, f.KeyBound = document.ClassA, true, true
		data := a.report.bytes(offData, 64)
		f.Anchors = append(f.Anchors, document.Anchor{Kind: document.AnchorReport, Value: hex.EncodeToString(data[:32])})
		if !allZero(data[32:]) {
			f.Anchors = append(f.Anchors, document.Anchor{Kind: document.AnchorAK, Value: hex.EncodeToString(data[32:])})
		}
	}
	if id := a.hexOf(offReportID, 32); id != "" {
		f.Machine = document.Machine{Kind: document.MachineSNP, Name: id}
	}
	f.Own(document.OwnerSNPIDKey, a.hexOf(offIDKey, 48))
	f.Own(document.OwnerSNPChip, hex.EncodeToString(a.chip))
	a.identity(&f)
	a.state(&f)
	a.hazards(&f)
	f.Findings = slices.Clone(a.passed)
	f.Sort()
	return f
}

// hexOf returns a field in hex, "" where it is all zero: the firmware writes zeros
// for what a guest does not have.
func (a Attestation) hexOf(off, n int) string {
	if b := a.report.bytes(off, n); !allZero(b) {
		return hex.EncodeToString(b)
	}
	return ""
}

func (a Attestation) identity(f *document.Facts) {
	f.Add("snp.product", string(a.product))
	f.Add("snp.key", string(a.kind))
	f.Add("snp.provider", a.csp)
	f.Add("snp.chip_id", hex.EncodeToString(a.chip))
	f.Add("snp.report_id", a.hexOf(offReportID, 32))
	f.Add("snp.measurement", hex.EncodeToString(a.report.bytes(offMeasured, 48)))
	f.Add("snp.host_data", hex.EncodeToString(a.report.bytes(offHostData, 32)))
	f.Add("snp.family_id", a.hexOf(offFamilyID, 16))
	f.Add("snp.image_id", a.hexOf(offImageID, 16))
	f.Add("snp.id_key", a.hexOf(offIDKey, 48))
	if a.report.u32(offKeyInfo)&keyAuthor != 0 {
		f.Add("snp.author_key", a.hexOf(offAuthorKey, 48))
	}
	f.Add("snp.guest_svn", strconv.FormatUint(uint64(a.report.u32(offGuestSVN)), 10))
	if id := a.report.bytes(offAgentID, 32); !allZero(id) && !allOnes(id) {
		f.Add("snp.migration_agent", hex.EncodeToString(id))
	}
}

func allOnes(b []byte) bool {
	return !slices.ContainsFunc(b, func(c byte) bool { return c != 0xff })
}

func (a Attestation) state(f *document.Facts) {
	r := a.report
	f.Add("snp.vmpl", strconv.FormatUint(uint64(r.u32(offVMPL)), 10))
	for name, v := range map[string]uint8{
		"bootloader": a.tcb.Bootloader, "tee": a.tcb.TEE, "snp": a.tcb.SNP, "microcode": a.tcb.Microcode,
	} {
		f.Add("snp.tcb."+name, strconv.Itoa(int(v)))
	}
	if a.product == Turin {
		f.Add("snp.tcb.fmc", strconv.Itoa(int(a.tcb.FMC)))
	}
	for name, bit := range map[string]uint64{
		"smt": policySMT, "migrate_ma": policyMigrateMA, "debug": policyDebug, "single_socket": policySingleSocket,
		"cxl": policyCXL, "aes256": policyAES256, "rapl_disabled": policyNoRAPL, "ciphertext_hiding": policyHiding, "page_swap_disabled": policyNoSwap,
	} {
		f.Add("snp.policy."+name, strconv.FormatBool(r.policy(bit)))
	}
	for name, bit := range map[string]uint64{
		"smt": platformSMT, "tsme": platformTSME, "ecc": platformECC, "rapl_disabled": platformRAPL,
		"ciphertext_hiding": platformHide, "alias_check": platformAlias, "tio": platformTIO,
	} {
		f.Add("snp.platform."+name, strconv.FormatBool(r.platform(bit)))
	}
	for name, off := range map[string]int{"current": offFirmware, "committed": offFirmware + 4} {
		v := r.firmware(off)
		f.Add("snp.firmware."+name, fmt.Sprintf("%d.%d.%d", v[0], v[1], v[2]))
	}
}

// hazards, the gravest first: a debugged guest has no secrets from its host, one
// at another privilege level may stand below another owner's monitor.
func (a Attestation) hazards(f *document.Facts) {
	if a.report.policy(policyDebug) {
		f.Fear(reason.SNPDebug, "the guest's policy lets the host read and change its memory")
	}
	if vmpl := a.report.u32(offVMPL); vmpl != 0 {
		f.Fear(reason.SNPVMPL, "the report was asked for at privilege level "+strconv.FormatUint(uint64(vmpl), 10))
	}
	if floor := levels[a.product].floor; !a.tcb.reaches(floor) {
		f.Fear(reason.SNPTCBLow, "the reported TCB is "+a.tcb.String()+", and the floor of "+string(a.product)+" is "+floor.String())
	}
}
