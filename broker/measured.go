package broker

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"strconv"
	"sync"

	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/eventlog"
)

// measuredCache keeps measurements by what they are made of: ten thousand hosts
// of one image share one, and a renewal of a host does not make it again.
type measuredCache struct {
	mu sync.Mutex
	by map[[32]byte]*ledger.Measurement // guarded by mu
}

// maxMeasured bounds the cache, at a few KiB each; past it, it starts anew.
const maxMeasured = 4096

// measurement is what an accepted attestation measured.
func (c *measuredCache) measurement(a verifier.Appraisal, pcrs []byte) (*ledger.Measurement, error) {
	key := measuredKey(a, pcrs)
	c.mu.Lock()
	known := c.by[key]
	c.mu.Unlock()
	if known != nil {
		return known, nil
	}
	m, err := ledger.NewMeasurement(measuredFacts(a))
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.by == nil || len(c.by) >= maxMeasured {
		c.by = make(map[[32]byte]*ledger.Measurement)
	}
	c.by[key] = &m
	return &m, nil
}

// measuredKey names what measuredFacts reads: what a log proves follows from its
// bytes and the quoted values.
func measuredKey(a verifier.Appraisal, pcrs []byte) (key [32]byte) {
	log, boot := a.EventLogDigest(), a.Boot().Digest()
	h := sha256.New()
	h.Write(log[:])
	h.Write(boot[:])
	h.Write(binary.BigEndian.AppendUint64(nil, a.FirmwareVersion()))
	h.Write([]byte(a.SecureBoot()))
	h.Write(pcrs) // what documents say among them
	h.Sum(key[:0])
	return key
}

// measuredFacts names what one boot of a machine measured. What changes while it
// runs is left out, because it would begin an interval with every attestation:
// PCR 10, boot phases, and the log of userspace.
func measuredFacts(a verifier.Appraisal) map[string]string {
	facts := make(map[string]string, 48)
	for i, v := range a.PCRs() {
		if i != imaPCR {
			facts["pcr."+strconv.Itoa(i)] = hexText(v)
		}
	}
	facts["secure_boot"] = a.SecureBoot()
	facts["firmware"] = strconv.FormatUint(a.FirmwareVersion(), 10)
	for name, value := range measuredValues(a) {
		if _, pcr := strconv.Atoi(name); pcr != nil && len(facts) < ledger.MaxFacts {
			facts[name] = value
		}
	}
	if d := a.EventLogDigest(); d != [32]byte{} {
		facts["event_log"] = hexText(d[:])
	}
	for _, f := range a.Boot().Facts() {
		value, proved := provedValue(f)
		if !proved {
			continue
		}
		name := "boot." + string(f.Kind)
		if f.Name != "" {
			name += "." + f.Name
		}
		addFact(facts, name, value)
		if len(facts) == ledger.MaxFacts {
			break
		}
	}
	return facts
}

// provedValue is what a fact says, or the digest of what was measured where the
// log's words for it are a claim.
func provedValue(f eventlog.Fact) (string, bool) {
	switch {
	case f.Userspace || f.Kind == eventlog.KindPhase || !f.Proved:
		return "", false
	case f.TextProved && f.Text != "":
		return f.Text, true
	case len(f.Digest) > 0:
		return hex.EncodeToString(f.Digest), true
	}
	return "", false
}

// addFact numbers further facts of one name, in the order of the log: "boot.kernel",
// "boot.kernel.2".
func addFact(facts map[string]string, name, value string) {
	key := name
	for n := 2; ; n++ {
		if _, taken := facts[key]; !taken {
			facts[key] = value
			return
		}
		key = name + "." + strconv.Itoa(n)
	}
}
