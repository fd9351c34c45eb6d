package policy

import "github.com/zonebroker/zonebroker/verifier/tpm2"

// Selection is the PCR selection that a quote must sign under this policy: the
// union of what its zones need, and always PCR 0 to 7, so that the firmware of
// every node is known to the history.
func (s *Set) Selection() tpm2.Selection {
	pcrs := []int{0, 1, 2, 3, 4, 5, 6, 7}
	if s != nil {
		for _, r := range s.references {
			pcrs = append(append(pcrs, sortedPCRs(r.PCRs)...), sortedPCRs(r.Events)...)
		}
		// Where loaders measure the command line: GRUB, a unified kernel image,
		// systemd-boot and stub. One that is not quoted may hold another line.
		for _, z := range s.zones {
			if z.Requires.Boot != nil {
				pcrs = append(pcrs, 8, 9, 11, 12)
			}
		}
	}
	return tpm2.SelectionOf(pcrs...)
}
