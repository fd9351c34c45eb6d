package tpm2_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/binary"
	"math/big"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/verifier/tpm2"
)

// BenchmarkQuoteOverBare measures all checks of a quote beside nothing but the
// signature in it, in turns of the same run. x-bare is the ratio of the fastest
// batches: what our own work costs, whatever else the machine was busy with.
func BenchmarkQuoteOverBare(b *testing.B) {
	for _, kind := range []struct {
		name string
		by   signer
	}{{"rsa", rsaSigner(rsaKeys()[0], akAttributes)}, {"p256", eccSigner(newECC(b), akAttributes)}} {
		b.Run(kind.name, func(b *testing.B) {
			e, ak := newEvidence(kind.by), kind.by.ak(b)
			attest, sig := e.signed(b)
			bare := bareVerification(b, kind.by.key.Public(), attest, sig)
			whole := func() bool {
				attested, err := tpm2.AuthenticateQuote(ak, attest, sig, e.qualifying)
				if err != nil {
					return false
				}
				_, err = attested.Quote(e.want, e.pcrs)
				return err == nil
			}
			bareBest, wholeBest := time.Hour, time.Hour
			for b.Loop() {
				bareBest = min(bareBest, batch(b, bare))
				wholeBest = min(wholeBest, batch(b, whole))
			}
			b.ReportMetric(float64(bareBest.Nanoseconds())/batchSize, "bare-ns")
			b.ReportMetric(float64(wholeBest.Nanoseconds())/batchSize, "quote-ns")
			b.ReportMetric(float64(wholeBest)/float64(bareBest), "x-bare")
			b.ReportMetric(0, "ns/op") // of a pair of batches, which means nothing
		})
	}
}

const batchSize = 16

func batch(b *testing.B, f func() bool) time.Duration {
	begin := time.Now()
	for range batchSize {
		if !f() {
			b.Fatal("a good quote was refused")
		}
	}
	return time.Since(begin)
}

// bareVerification verifies the signature and does nothing else: numbers and
// digest are there already.
func bareVerification(b *testing.B, pub crypto.PublicKey, attest, sig []byte) func() bool {
	b.Helper()
	digest := sha256.Sum256(attest)
	size := int(binary.BigEndian.Uint16(sig[4:]))
	first, rest := sig[6:6+size], sig[6+size:]
	switch key := pub.(type) {
	case *rsa.PublicKey:
		return func() bool { return rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], first) == nil }
	case *ecdsa.PublicKey:
		r, s := new(big.Int).SetBytes(first), new(big.Int).SetBytes(rest[2:])
		return func() bool { return ecdsa.Verify(key, digest[:], r, s) }
	}
	b.Fatal("no such key")
	return nil
}
