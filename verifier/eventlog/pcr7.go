package eventlog

import "github.com/zonebroker/zonebroker/verifier/reason"

// pcr7 is the grammar of PCR 7: variables, one separator, authorities. Any slip
// leaves Secure Boot unproved. The first one is named, but a wrong separator
// before all others: without it nothing says which events are the firmware's.
type pcr7 struct {
	separated bool
	seen      int // SecureBoot variables before the separator
	state     string
	event     int // of the state
	err       *reason.Error
}

func (p *pcr7) fail(x *explained, code reason.Code, event int, text string) {
	if p.err == nil || code == reason.EventLogSeparator && p.err.Code != code {
		p.err = reason.New(code, numbered(text, event))
	}
	x.note(7, code, event, text)
}

func (p *pcr7) observe(x *explained, e *Event, hashed bool) {
	switch {
	case e.Type == TypeSeparator && p.separated:
		p.fail(x, reason.EventLogSeparator, e.Index, "event # is a second separator")
	case e.Type == TypeSeparator:
		p.separated = true
		if !plainSeparator(e) {
			p.fail(x, reason.EventLogSeparator, e.Index, "event # is a separator with other data")
		} else if !hashed {
			p.fail(x, reason.EventLogDataDigest, e.Index, "the data of event # does not hash to its digest")
		}
	case p.separated && e.Type == TypeVariableAuthority:
		// Their data is known to differ from the digest (a shim defect): usable for
		// nothing, and no reason to doubt what stands before the separator.
	case p.separated:
		p.fail(x, reason.EventLogPCR7Grammar, e.Index, "event # after the separator is no authority")
	case e.Type == TypeVariableDriverConfig:
		p.config(x, e, hashed)
	default:
		p.fail(x, reason.EventLogPCR7Grammar, e.Index, "event # before the separator is no variable")
	}
}

// config judges a variable before the separator. All of them must hash, not only
// SecureBoot: otherwise the real SecureBoot event could pose as another one.
func (p *pcr7) config(x *explained, e *Event, hashed bool) {
	if !hashed {
		p.fail(x, reason.EventLogDataDigest, e.Index, "the data of event # does not hash to its digest")
		return
	}
	v, ok := parseVariable(e.Data)
	if !ok {
		p.fail(x, reason.EventLogVariable, e.Index, "event # is no UEFI variable")
		return
	}
	if !v.isSecureBoot() {
		return
	}
	p.seen++
	p.event = e.Index
	switch {
	case p.seen > 1:
		p.fail(x, reason.EventLogPCR7Grammar, e.Index, "event # is a second SecureBoot variable")
	case len(v.data) == 0, len(v.data) == 1 && v.data[0] == 0:
		p.state = SecureBootOff
	case len(v.data) == 1 && v.data[0] == 1:
		p.state = SecureBootOn
	default:
		p.fail(x, reason.EventLogPCR7Grammar, e.Index, "event # gives SecureBoot an impossible value")
	}
}

func (p *pcr7) finish(x *explained) {
	if !p.separated {
		p.fail(x, reason.EventLogSeparator, 0, "there is no separator")
	}
	if p.seen == 0 {
		p.fail(x, reason.EventLogPCR7Grammar, 0, "there is no SecureBoot variable before the separator")
	}
	if p.err != nil {
		x.unproved = p.err
		return
	}
	x.secureBoot, x.secureBootEvent = p.state, p.event
}
