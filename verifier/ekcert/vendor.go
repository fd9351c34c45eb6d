package ekcert

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// vendorID is a TPM manufacturer id: four bytes, in certificates written as
// "id:" and eight hex digits.
type vendorID [4]byte

// vendors is the TCG TPM Vendor ID Registry, Family 1.2 and 2.0, version 1.08,
// table 2 (capability vendor ids), without what stands there for simulators and
// tests. The short name is the id as text.
var vendors = map[string]string{
	"414D4400": "AMD",  // AMD
	"414E5400": "ANT",  // Ant Group
	"41524D00": "ARM",  // Arm
	"41544D4C": "ATML", // Atmel
	"4252434D": "BRCM", // Broadcom
	"4353434F": "CSCO", // Cisco
	"464C5953": "FLYS", // Flyslice Technologies
	"474F4F47": "GOOG", // Google
	"48495349": "HISI", // Huawei
	"48504500": "HPE",  // HPE
	"48504900": "HPI",  // HPI
	"49424D00": "IBM",  // IBM
	"49465800": "IFX",  // Infineon
	"494E5443": "INTC", // Intel
	"4C454E00": "LEN",  // Lenovo
	"4D534654": "MSFT", // Microsoft
	"4E534700": "NSG",  // NSING
	"4E534D20": "NSM",  // National Semiconductor
	"4E544300": "NTC",  // Nuvoton Technology
	"4E545A00": "NTZ",  // Nationz
	"51434F4D": "QCOM", // Qualcomm
	"524F4343": "ROCC", // Fuzhou Rockchip
	"53454345": "SECE", // SecEdge
	"5345414C": "SEAL", // Wisekey
	"534D5343": "SMSC", // SMSC
	"534D534E": "SMSN", // Samsung
	"534E5300": "SNS",  // Sinosun
	"53544D20": "STM",  // STMicroelectronics
	"54584E00": "TXN",  // Texas Instruments
	"57454300": "WEC",  // Winbond
}

// parseVendor reads "id:" and eight hex digits, in either case, as both occur.
func parseVendor(s string) (vendorID, bool) {
	var id vendorID
	digits, ok := strings.CutPrefix(s, "id:")
	if !ok || len(digits) != 2*len(id) {
		return id, false
	}
	_, err := hex.Decode(id[:], []byte(digits))
	return id, err == nil
}

// name returns the registered short name, or the id itself: an unregistered id
// must not come out looking like a registered one ("STM\x00" for "STM ").
func (v vendorID) name() string {
	if n, ok := vendors[fmt.Sprintf("%X", v[:])]; ok {
		return n
	}
	return v.String()
}

// String returns "id:" and eight upper-case hex digits.
func (v vendorID) String() string { return fmt.Sprintf("id:%X", v[:]) }

// listed reports whether list holds v, as an id or as its registered name.
func (v vendorID) listed(list []string) bool {
	for _, s := range list {
		if id, ok := parseVendor(s); (ok && id == v) || s == v.name() {
			return true
		}
	}
	return false
}

// allowed: registered or extra, and named where the options name any.
func (v vendorID) allowed(opts Options) bool {
	_, registered := vendors[fmt.Sprintf("%X", v[:])]
	if v.listed(opts.ExtraVendors) {
		return true
	}
	return registered && (len(opts.Vendors) == 0 || v.listed(opts.Vendors))
}
