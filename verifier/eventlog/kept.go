package eventlog

import (
	"crypto/sha256"
	"slices"
	"sync"

	"github.com/zonebroker/zonebroker/verifier/celog"
)

// Kept is a log that is asked about again and again: ten thousand hosts of one
// image share it, and each renewal shows another quote of it. What depends on
// its bytes alone is worked out once for each bank; the quoted values are
// compared each time. It is safe for concurrent use.
type Kept struct {
	raw    []byte
	digest [sha256.Size]byte

	mu    sync.Mutex
	banks [len(judged)]*keptBank // by mu; nil until asked for
}

// keptBank is a log in one bank.
type keptBank struct {
	err    error // of Parse
	log    Log
	values replayed

	mu    sync.Mutex
	facts map[[PCRs]bool]Explained // by mu; by the PCRs that were quoted
}

// maxFacts is more selections of PCRs than are in force at one time.
const maxFacts = 4

// Keep parses a log; raw must not change any more. What is no log is kept too:
// Explain refuses it each time. It returns nil for no bytes.
func Keep(raw []byte) *Kept {
	if len(raw) == 0 {
		return nil
	}
	return &Kept{raw: raw, digest: sha256.Sum256(raw)}
}

// Bytes returns the log as it was given; not to be changed.
func (k *Kept) Bytes() []byte { return k.raw }

// Digest returns the SHA-256 of Bytes.
func (k *Kept) Digest() [sha256.Size]byte { return k.digest }

// Explain is what Parse and Log.Explain give for the same bytes.
func (k *Kept) Explain(quoted map[int][]byte) (Explained, error) {
	return k.ExplainBank(quoted, SHA256)
}

// ExplainBank is what ParseBank and Log.Explain give for the same bytes.
func (k *Kept) ExplainBank(quoted map[int][]byte, bank Bank) (Explained, error) {
	return k.ExplainWith(quoted, bank, celog.Log{})
}

// ExplainWith is what ParseBank and Log.ExplainWith give for the same bytes.
func (k *Kept) ExplainWith(quoted map[int][]byte, bank Bank, user celog.Log) (Explained, error) {
	i := slices.Index(judged[:], bank)
	if i < 0 {
		return Explained{}, errBank(bank)
	}
	return k.in(i).explain(quoted, user)
}

// in returns the log in the i-th of the judged banks.
func (k *Kept) in(i int) *keptBank {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.banks[i] == nil {
		b := &keptBank{facts: make(map[[PCRs]bool]Explained)}
		if b.log, b.err = ParseBank(k.raw, judged[i]); b.err == nil {
			b.values = b.log.replay()
		}
		k.banks[i] = b
	}
	return k.banks[i]
}

func (b *keptBank) explain(quoted map[int][]byte, user celog.Log) (Explained, error) {
	if b.err != nil {
		return Explained{}, b.err
	}
	known, u, err := b.log.compareWith(&b.values, quoted, user)
	if err != nil {
		return Explained{}, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	x, ok := b.facts[known]
	if !ok {
		x = b.log.facts(&b.values, known)
		if len(b.facts) >= maxFacts {
			clear(b.facts)
		}
		b.facts[known] = x
	}
	x.user = u
	return x, nil
}
