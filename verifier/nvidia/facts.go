package nvidia

import (
	"strconv"

	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// Mixed is the value of a selector in which the devices of one machine differ: a
// zone that wants one driver must not be content with one device that has it.
const Mixed = "mixed"

// Facts returns what the evidence proved: class A for reports of devices and class
// B for tokens, where the nonce was asked for; class C else. It names no machine
// and no owner. Selectors are named in docs/evidence/nvidia.md.
func (e Evidence) Facts() document.Facts {
	f := document.Facts{Class: document.ClassC, IssuedAt: e.issued, ExpiresAt: e.expires}
	if len(e.devices) == 0 {
		return f
	}
	if e.form == FormSPDM {
		f.Pass("nvidia.signature", strconv.Itoa(len(e.devices))+" device reports and chains to the NVIDIA root")
	} else {
		f.Pass("nvidia.token", "signed by the configured issuer, and those of the devices are the ones that it names")
	}
	if e.bound {
		f.Class, f.NonceBound, f.KeyBound = document.ClassA, true, true
		if e.form == FormEAT {
			f.Class = document.ClassB
		}
		f.Pass("nvidia.nonce", "made from this challenge")
	}
	f.Add("nvidia.form", e.form)
	f.Add("nvidia.devices", strconv.Itoa(len(e.devices)))
	e.addCommon(&f, "nvidia.hwmodel", func(d *deviceFacts) string { return d.hardware })
	e.addCommon(&f, "nvidia.driver", func(d *deviceFacts) string { return d.driver })
	e.addCommon(&f, "nvidia.vbios", func(d *deviceFacts) string { return d.vbios })
	for i := range e.devices {
		d := &e.devices[i]
		f.Add("nvidia.ueid", d.id)
		if d.unjudged != "" {
			f.Fear(reason.NvidiaRIMMissing, "device "+d.id+": "+d.unjudged)
		}
	}
	if len(f.Hazards) == 0 {
		f.Pass("nvidia.measurements", "as in the references")
		f.Add("nvidia.measured", "true")
	}
	f.Sort()
	return f
}

func (e Evidence) addCommon(f *document.Facts, name string, of func(*deviceFacts) string) {
	value := of(&e.devices[0])
	for i := range e.devices {
		if of(&e.devices[i]) != value {
			value = Mixed
		}
	}
	f.Add(name, value)
}
