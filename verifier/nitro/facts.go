package nitro

import (
	"bytes"
	"encoding/hex"
	"strconv"

	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// Debug reports whether an enclave runs in debug mode, in which its parent reads
// its console and memory is not measured: PCR 0 to 2 are zero then. One of them
// is enough, as none of a measured enclave is.
func (d Document) Debug() bool {
	return d.kind == Enclave && (isZero(d.pcrs[0]) || isZero(d.pcrs[1]) || isZero(d.pcrs[2]))
}

// Facts returns what the document proved. Class A needs the nonce: without one
// whoever has read the document can show it for five minutes.
func (d Document) Facts() document.Facts {
	f := document.Facts{
		Class: document.ClassC, NonceBound: d.bound, KeyBound: d.bound,
		IssuedAt: d.timestamp, ExpiresAt: d.notAfter,
	}
	if d.bound {
		f.Class = document.ClassA
	}
	f.Pass("nitro.chain", "from a configured root to a certificate of "+d.region)
	f.Pass("nitro.signature", "by the key of the module "+d.moduleID)
	f.Pass("nitro.timestamp", "within five minutes")
	if d.kind == Enclave {
		d.enclave(&f)
	} else {
		d.instance(&f)
	}
	f.Sort()
	return f
}

// enclave: PCR 0 measures the image, PCR 8 the certificate that signed it (AWS
// Nitro Enclaves, "Cryptographic attestation"). A zero is nobody's: all debug
// enclaves share it, and all unsigned ones. The parent is no anchor: what runs on
// it is not what was measured, so a parent's identity document beside this one
// must not count as one machine with it.
func (d Document) enclave(f *document.Facts) {
	f.Machine = document.Machine{Kind: document.MachineNitro, Name: d.moduleID}
	f.Own(document.OwnerNitroSigner, d.measured(8))
	f.Own(document.OwnerNitroImage, d.measured(0))
	f.Own(document.OwnerNitroInstance, d.instanceID)
	f.Add("nitro.module_id", d.moduleID)
	f.Add("nitro.enclave_id", d.enclaveID)
	f.Add("nitro.instance_id", d.instanceID)
	f.Add("nitro.region", d.region)
	f.Add("nitro.debug", strconv.FormatBool(d.Debug()))
	d.selectors(f, "nitro.pcr.")
	if d.Debug() {
		f.Fear(reason.NitroDebug, "PCR 0, 1 or 2 is zero: the enclave runs in debug mode")
	}
}

// instance: no account stands in the document.
func (d Document) instance(f *document.Facts) {
	name := d.region + "/" + d.instanceID
	f.Machine = document.Machine{Kind: document.MachineNitroTPM, Name: name}
	f.Anchors = []document.Anchor{{Kind: document.AnchorEC2, Value: name}}
	f.Own(document.OwnerNitroInstance, d.instanceID)
	f.Add("nitrotpm.module_id", d.moduleID)
	f.Add("nitrotpm.instance_id", d.instanceID)
	f.Add("nitrotpm.region", d.region)
	d.selectors(f, "nitrotpm.pcr.")
}

func (d Document) selectors(f *document.Facts, prefix string) {
	for i := range PCRs {
		f.Add(prefix+strconv.Itoa(i), d.measured(i))
	}
}

// measured returns a register in hex, "" where it holds nothing: zero from reset
// on, or ones, which a TPM keeps in the registers of a dynamic launch that has not
// happened (TPM 2.0, Part 1, "Initializing PCR").
func (d Document) measured(i int) string {
	if v := d.pcrs[i]; v != nil && !isZero(v) && !bytes.Equal(v, ones) {
		return hex.EncodeToString(v)
	}
	return ""
}

var zeros, ones = make([]byte, PCRSize), bytes.Repeat([]byte{0xff}, PCRSize)

func isZero(pcr []byte) bool { return bytes.Equal(pcr, zeros) }
