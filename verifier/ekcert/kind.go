package ekcert

import "strings"

// Kinds of TPM.
const (
	KindDiscrete = "discrete" // a chip of its own
	KindFirmware = "firmware" // runs on a processor inside the SoC or chipset
	KindVirtual  = "virtual"  // a hypervisor's
	KindSoftware = "software" // a process: proves nothing about a machine
	KindUnknown  = "unknown"  // the certificate does not prove any
)

// kinds is by manufacturer as Certificate.Manufacturer gives it. Makers that sell
// more than one kind, or whose kind nobody has documented, are left out.
var kinds = map[string]string{
	"ATML": KindDiscrete, // AT97SC3204/5 (data sheets)
	"IFX":  KindDiscrete, // OPTIGA TPM SLB 966x, 967x (infineon.com/tpm)
	"NSG":  KindDiscrete, // NS350 (nsing.com.sg, TPM EK PKI "TPM Devices")
	"NSM":  KindDiscrete, // PC8374, before Winbond took the line over
	"NTC":  KindDiscrete, // NPCT65x, 75x, 76x (nuvoton.com, TPM)
	"NTZ":  KindDiscrete, // Z32H330TC (nationstech.com)
	"SNS":  KindDiscrete, // SSX44 and after (TCG certified products list)
	"STM":  KindDiscrete, // ST33TP, STSAFE-TPM (st.com)
	"WEC":  KindDiscrete, // NPCT42x, before Nuvoton took the line over

	"AMD":  KindFirmware, // fTPM and Pluton on the secure processor (AMD PSP; ftpm.amd.com)
	"INTC": KindFirmware, // PTT in CSME (Intel, "Intel Platform Trust Technology")
	"QCOM": KindFirmware, // in the trusted execution environment of the SoC

	"GOOG": KindVirtual, // GCE Shielded VM (model "vTPM")
	"MSFT": KindVirtual, // Hyper-V; Pluton: see Kind

	"id:00001014": KindSoftware, // swtpm with libtpms: what swtpm_localca writes
}

// Kind returns the kind of TPM that a manufacturer and a model stand for, as
// Certificate.Manufacturer and Model give them: a fact for as long as the
// certificate was verified, KindUnknown for "".
func Kind(manufacturer, model string) string {
	if manufacturer == "MSFT" && strings.Contains(strings.ToLower(model), "pluton") {
		return KindFirmware
	}
	if k, ok := kinds[manufacturer]; ok {
		return k
	}
	return KindUnknown
}

// Kind returns the kind of TPM that the certificate proves.
func (c Certificate) Kind() string { return Kind(c.Manufacturer(), c.Model()) }
