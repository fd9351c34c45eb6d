package verifier

import (
	"fmt"
	"maps"

	"github.com/zonebroker/zonebroker/verifier/ima"
)

// imaPCR is the PCR that only the kernel's measurement list explains.
const imaPCR = 10

// IMA returns the measurement list that explained the quoted PCR 10; the zero
// Attested where PCR 10 was not selected.
func (a Appraisal) IMA() ima.Attested {
	if a.ima == nil {
		return ima.Attested{}
	}
	return *a.ima
}

// judgeIMA has the measurement list explain PCR 10, where it was selected, and
// returns the values that are left for the firmware's log.
func (a *Appraisal) judgeIMA(e *TPM2Evidence, base *Baseline) (rest map[int][]byte, err error) {
	if _, selected := a.pcrs[imaPCR]; !selected {
		return a.pcrs, nil
	}
	seg, from := ima.Segment{}, ima.State{}
	if e.IMA != nil {
		seg = *e.IMA
	}
	if base != nil {
		from = base.IMA
	}
	boot := ima.Boot{Resets: a.clock.ResetCount, Restarts: a.clock.RestartCount}
	attested, err := ima.Attest(seg, from, boot, ima.Quoted{Bank: ima.SHA256, PCRs: a.pcrs})
	if err != nil {
		return nil, err
	}
	a.ima = &attested
	a.pass("ima", describeIMA(attested))
	rest = maps.Clone(a.pcrs)
	delete(rest, imaPCR)
	return rest, nil
}

func describeIMA(at ima.Attested) string {
	text := fmt.Sprintf("PCR 10 is explained by %d entries, %d of them new", at.Entries(), at.New())
	if n := at.Carried(); n > 0 {
		text += fmt.Sprintf("; %d more wait for the next quote", n)
	}
	if at.BootAggregate() != "" {
		text += "; the boot aggregate is over " + at.BootAggregate()
	}
	if at.Extend() == ima.ExtendPadded {
		text += "; the kernel extends padded SHA-1 digests"
	}
	return text
}

// ima writes what the measurement list proved; nothing for an appraisal without
// one, so that those of before stay as they are.
func (w *canonicalWriter) ima(at *ima.Attested) {
	if at == nil {
		return
	}
	w.number(`,"ima":{"boot":"`, uint64(at.Boot().Resets))
	w.number("/", uint64(at.Boot().Restarts))
	w.number(`","first":"`, at.First())
	w.number(`","entries":"`, at.Entries())
	w.number(`","carried":"`, uint64(at.Carried()))
	w.number(`","violations":"`, at.Violations())
	w.text(`","extend":`, at.Extend())
	w.text(`,"pcr10":`, fmt.Sprintf("%x", at.PCR10()))
	w.out = append(w.out, '}')
}
