package conformance

import (
	"crypto/sha256"
	"encoding/hex"

	"github.com/zonebroker/zonebroker/verifier/eventlog"
	"github.com/zonebroker/zonebroker/verifier/tpm2"
)

// judgeEventLog replays a log, compares it with the PCR values that were
// published with it, and does what the row's check names.
func judgeEventLog(c *testcase) (facts, error) {
	check, err := c.choice("check", "", "replay", "secure_boot")
	if err != nil {
		return nil, err
	}
	bank, err := c.bank()
	if err != nil {
		return nil, err
	}
	raw, published, err := c.log(bank)
	if err != nil {
		return nil, err
	}
	log, err := eventlog.ParseBank(raw, eventlog.Bank(bank))
	if err != nil {
		return nil, err
	}
	replayed := log.Replay()
	if published == nil {
		published = map[int][]byte{}
		for i, v := range replayed {
			published[i] = v
		}
	}
	explained, err := log.Explain(published)
	if err != nil {
		return nil, err
	}
	out := facts{"replay": replayDigest(replayed[:])}
	if check != "secure_boot" {
		return out, nil
	}
	out["secure_boot"] = explained.SecureBoot()
	return out, explained.SecureBootUnproved()
}

// log returns a log and the PCR values beside it, nil where none are published.
func (c *testcase) log(bank tpm2.Bank) ([]byte, map[int][]byte, error) {
	var raw []byte
	var values map[int][]byte
	if c.has("container") {
		dump, err := c.goAttestation()
		if err != nil {
			return nil, nil, err
		}
		raw, values = dump.Log.Raw, dump.pcrs(bank)
	} else {
		b, err := c.open(c.row.Path)
		if err != nil {
			return nil, nil, err
		}
		raw = b
	}
	given, ok, err := c.pcrs(bank, tpm2.Selection{})
	if err != nil {
		return nil, nil, err
	}
	if ok {
		values = given
	}
	return raw, values, nil
}

// replayDigest is the fact "replay": SHA-256 over the replayed values of all 24
// PCRs.
func replayDigest(values [][]byte) string {
	h := sha256.New()
	for _, v := range values {
		h.Write(v)
	}
	return hex.EncodeToString(h.Sum(nil))
}
