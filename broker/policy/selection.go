package policy

// Selection is the mask of a PCR selection as signed: bit i of byte i/8 is
// PCR i.
type Selection [3]byte

// Selection is the PCR selection that a quote must sign under this policy: the
// union of what its zones need, and always PCR 0 to 7, so that the firmware of
// every node is known to the history.
func (s *Set) Selection() Selection {
	out := Selection{0xff}
	if s == nil {
		return out
	}
	for _, r := range s.references {
		for pcr := range r.PCRs {
			out[pcr/8] |= 1 << (pcr % 8)
		}
		for pcr := range r.Events {
			out[pcr/8] |= 1 << (pcr % 8)
		}
	}
	return out
}
