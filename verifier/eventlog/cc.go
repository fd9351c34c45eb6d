package eventlog

import (
	"bytes"

	"github.com/zonebroker/zonebroker/verifier/reason"
)

// Runtime registers of a confidential guest (UEFI 2.10, section 38.4.1): the log
// gives TDX's RTMR 0 to 3 the measurement register indexes 1 to 4. Index 0 is the
// guest's initial image, which no event extends.
const (
	ccRegisters = 4
	ccFirst     = 1
)

// ParseCC reads the log of a confidential guest (CCEL): the crypto-agile form in
// the SHA-384 bank, with registers 1 to 4, in a buffer whose unused rest is filled
// with 0xff. Refusals are those of ParseBank, eventlog.pcr_index for any other
// register too.
func ParseCC(raw []byte) (Log, error) {
	r := reader{rest: raw}
	spec, err := r.header(ccFirst + ccRegisters - 1) // real firmware puts it into register 1
	if err != nil {
		return Log{}, err
	}
	if err := spec.judgeBank(SHA384); err != nil {
		return Log{}, err
	}
	l := Log{body: r.rest, spec: spec, bank: SHA384}
	for len(r.rest) > 0 && !isFill(r.rest) {
		e, err := r.event(&spec, SHA384, l.count+1)
		if err != nil {
			return Log{}, err
		}
		if e.extends() && (e.PCR < ccFirst || e.PCR >= ccFirst+ccRegisters) {
			return Log{}, reason.Newf(reason.EventLogPCRIndex, "event %d extends register %d, a guest has 1 to 4", e.Index, e.PCR)
		}
		l.count++
	}
	l.body = l.body[:len(l.body)-len(r.rest)]
	return l, nil
}

// isFill stops at the first byte that is none, so that asking before each record
// costs nothing.
func isFill(b []byte) bool {
	for _, v := range b {
		if v != 0xff {
			return false
		}
	}
	return true
}

// ExplainCC compares a log of ParseCC with RTMR 0 to 3 of a verified quote and
// returns what it then proves about Secure Boot: SecureBootOn, SecureBootOff, or
// "" where the log does not say so beyond doubt. The refusal is
// eventlog.replay_mismatch and names the first register that differs.
func (l Log) ExplainCC(rtmrs [ccRegisters][]byte) (secureBoot string, err error) {
	p := l.replay()
	size := l.bank.Size()
	for i, quoted := range rtmrs {
		at := ccFirst + i
		if got := p.values[at][:size]; !bytes.Equal(got, quoted) {
			return "", reason.Newf(reason.EventLogReplayMismatch, "the %d events of register %d lead to %x, RTMR %d is quoted as %x",
				p.count[at], at, got, i, quoted)
		}
	}
	return l.ccSecureBoot(), nil
}

// ccSecureBoot reads the SecureBoot variable out of register 1, which takes what
// PCR 1 and 7 take elsewhere. Up to the first separator the firmware alone extends
// it; a kernel can extend it later with whatever it likes. So the variable has to
// stand there once, and every variable there has to hash to its digest: else the
// true one could pose as another.
func (l Log) ccSecureBoot() string {
	state := ""
	for w := l.walk(); w.next(); {
		e := &w.event
		if e.PCR != ccFirst || !e.extends() {
			continue
		}
		if l.bank.separates(e.Digest) {
			return state
		}
		if !l.bank.covers(e.Digest, e.Data) {
			if e.Type == TypeVariableDriverConfig || e.Type == TypeVariableAuthority {
				return ""
			}
			continue
		}
		v, ok := parseVariable(e.Data)
		if !ok || !v.isSecureBoot() {
			continue
		}
		switch {
		case state != "":
			return ""
		case len(v.data) == 0, len(v.data) == 1 && v.data[0] == 0:
			state = SecureBootOff
		case len(v.data) == 1 && v.data[0] == 1:
			state = SecureBootOn
		default:
			return ""
		}
	}
	return "" // no separator: nothing says where the firmware ends
}
