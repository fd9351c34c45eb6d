package tpm2collect

import (
	"fmt"

	"github.com/zonebroker/zonebroker/verifier/ima"
)

const (
	// DefaultIMALog is where Linux shows the measurement list. Its ASCII neighbour
	// is no evidence: it leaves out what the digests are over.
	DefaultIMALog = "/sys/kernel/security/ima/binary_runtime_measurements"
	// MaxIMALog is the most bytes of a list that are read: some 600 000 entries, of
	// which only what is new is sent.
	MaxIMALog = 64 << 20
)

// ReadIMALog reads the measurement list from an entry on, counted from 0 at boot, and returns where it really starts: 0 where the list has not that many
// entries. Read it after the quote: the kernel lists a file before it extends
// PCR 10, so that everything that is quoted then stands in it. A file that does
// not exist is no error and gives nil.
func ReadIMALog(path string, from int64, limit int) (log []byte, first int64, err error) {
	whole, err := readLog(path, logKind{name: "measurement list", flag: "--ima-log", limit: MaxIMALog})
	if err != nil || len(whole) == 0 {
		return nil, 0, err
	}
	log, ok := ima.Skip(whole, uint64(from))
	if !ok {
		log, from = whole, 0
	}
	if len(log) > limit {
		return nil, 0, &Error{
			What: "read the measurement list",
			Why:  fmt.Sprintf("the %d bytes of %s from entry %d on are more than the %d that fit into a request", len(log), path, from, limit),
			Fix:  "have the kernel measure less (ima_policy), and reboot",
		}
	}
	return log, from, nil
}
