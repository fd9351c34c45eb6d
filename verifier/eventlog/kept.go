package eventlog

import (
	"crypto/sha256"
	"sync"
)

// Kept is a log that is asked about again and again: ten thousand hosts of one
// image share it, and each renewal shows another quote of it. What depends on
// its bytes alone is worked out once; the quoted values are compared each time.
// It is safe for concurrent use.
type Kept struct {
	raw    []byte
	digest [sha256.Size]byte
	err    error // of Parse
	log    Log
	values [PCRs]value
	first  [PCRs]int

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
	k := &Kept{raw: raw, digest: sha256.Sum256(raw), facts: make(map[[PCRs]bool]Explained)}
	if k.log, k.err = Parse(raw); k.err == nil {
		k.values, k.first = k.log.replay()
	}
	return k
}

// Bytes returns the log as it was given; not to be changed.
func (k *Kept) Bytes() []byte { return k.raw }

// Digest returns the SHA-256 of Bytes.
func (k *Kept) Digest() [sha256.Size]byte { return k.digest }

// Explain is what Parse and Log.Explain give for the same bytes.
func (k *Kept) Explain(quoted map[int][]byte) (Explained, error) {
	if k.err != nil {
		return Explained{}, k.err
	}
	known, err := compare(&k.values, &k.first, quoted)
	if err != nil {
		return Explained{}, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	x, ok := k.facts[known]
	if !ok {
		x = k.log.facts(known)
		if len(k.facts) >= maxFacts {
			clear(k.facts)
		}
		k.facts[known] = x
	}
	return x, nil
}
