package ekcert_test

import (
	"bytes"
	"crypto/elliptic"
	"crypto/rsa"
	encoding_asn1 "encoding/asn1"
	"math/big"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/x509chain"
)

// TestLimitsAreWhereTheySay: the largest that is read; one more is refused in
// TestVerifySizes.
func TestLimitsAreWhereTheySay(t *testing.T) {
	m := newMaker(t)
	key := newKey(t, elliptic.P256())
	t.Run("certificate with its fill", func(t *testing.T) {
		for extra, want := range map[int]reason.Code{0: "", 1: reason.RequestTooLarge} {
			r := m.request(key.Public())
			r.rewrap = func(der []byte) []byte {
				return append(der, make([]byte, x509chain.MaxCertificate-len(der)+extra)...)
			}
			_, err := r.verify(t)
			wantCode(t, err, want)
		}
	})
	t.Run("issuers", func(t *testing.T) {
		for n, want := range map[int]reason.Code{x509chain.MaxChain: "", x509chain.MaxChain + 1: reason.RequestTooLarge} {
			r := m.request(key.Public())
			for len(r.chain) < n {
				r.chain = append(r.chain, r.chain[0])
			}
			_, err := r.verify(t)
			wantCode(t, err, want)
		}
	})
	t.Run("bytes of an issuer", func(t *testing.T) {
		for n, want := range map[int]reason.Code{x509chain.MaxCertificate: reason.EKCertEncoding, x509chain.MaxCertificate + 1: reason.RequestTooLarge} {
			r := m.request(key.Public())
			r.chain = [][]byte{make([]byte, n)}
			_, err := r.verify(t)
			wantCode(t, err, want)
		}
	})
}

// namesWith is an alternative name with the attributes of a good one, and more
// RDNs behind them.
func namesWith(more ...func(b *cryptobyte.Builder)) []byte {
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(asn1.Tag(4).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
			b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
				for _, a := range stm {
					b.AddASN1(asn1.SET, pairOf(a.last, func(b *cryptobyte.Builder) {
						b.AddASN1(asn1.UTF8String, func(b *cryptobyte.Builder) { b.AddBytes([]byte(a.value)) })
					}))
				}
				for _, f := range more {
					f(b)
				}
			})
		})
	})
	return b.BytesOrPanic()
}

func pairOf(last int, value func(b *cryptobyte.Builder)) func(b *cryptobyte.Builder) {
	return func(b *cryptobyte.Builder) {
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(encoding_asn1.ObjectIdentifier{2, 23, 133, 2, last})
			value(b)
		})
	}
}

// TestEveryNameIsRead: a part of the alternative name that does not parse is not
// passed over for the good ones beside it, where another reader may see more.
func TestEveryNameIsRead(t *testing.T) {
	set := func(f func(b *cryptobyte.Builder)) func(b *cryptobyte.Builder) {
		return func(b *cryptobyte.Builder) { b.AddASN1(asn1.SET, f) }
	}
	bad := map[string][]byte{
		"an RDN that is no SET":  namesWith(func(b *cryptobyte.Builder) { b.AddASN1(asn1.SEQUENCE, func(*cryptobyte.Builder) {}) }),
		"a pair that is none":    namesWith(set(func(b *cryptobyte.Builder) { b.AddASN1NULL() })),
		"a pair without a name":  namesWith(set(func(b *cryptobyte.Builder) { b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddASN1NULL() }) })),
		"a pair without a value": namesWith(set(pairOf(9, func(*cryptobyte.Builder) {}))),
		"a model that is a number": namesWith(set(pairOf(2, func(b *cryptobyte.Builder) {
			b.AddASN1Int64(1)
		}))),
	}
	whole := namesWith()
	empty := append(bytes.Clone(whole[2:]), 0xa4, 0)
	bad["an empty directory name"] = append([]byte{0x30, byte(len(empty))}, empty...)
	m := newMaker(t)
	key := newKey(t, elliptic.P256())
	judge := func(san []byte) error {
		r := m.request(key.Public())
		setSAN(r.template, san)
		_, err := r.verify(t)
		return err
	}
	if err := judge(whole); err != nil {
		t.Fatal(err)
	}
	for name, san := range bad {
		t.Run(name, func(t *testing.T) {
			err := judge(san)
			wantCode(t, err, reason.EKCertSAN)
			if !strings.Contains(reason.Detail(err), "does not parse") {
				t.Errorf("detail %q", reason.Detail(err))
			}
		})
	}
	err := judge(altName(false, stm[1:]...))
	if wantCode(t, err, reason.EKCertSAN); !strings.Contains(reason.Detail(err), "no TPM manufacturer") {
		t.Errorf("detail %q", reason.Detail(err))
	}
	wantCode(t, judge(altName(false, append([]tpmAttribute{stm[2]}, stm...)...)), reason.EKCertSAN)
}

// TestVendorListsAreRead: an entry that is no id is not the id of zeros, and one
// vendor is not another.
func TestVendorListsAreRead(t *testing.T) {
	m := newMaker(t)
	for extra, id := range map[string]string{"no id": "id:00000000", "id:00001014": "id:00009999"} {
		r := m.request(newKey(t, elliptic.P256()).Public())
		setSAN(r.template, altName(false, tpmAttribute{1, id}))
		r.opts.ExtraVendors = []string{extra}
		_, err := r.verify(t)
		wantCode(t, err, reason.EKCertVendorDenied)
	}
}

// TestNoTimeIsNoTime: the zero time is refused even by a certificate that began
// then.
func TestNoTimeIsNoTime(t *testing.T) {
	m := newMaker(t)
	r := m.request(newKey(t, elliptic.P256()).Public())
	r.template.NotBefore, r.now = time.Time{}, time.Time{}
	_, err := r.verify(t)
	wantCode(t, err, reason.EKCertValidity)
}

// TestROCAAsksForEveryPrime: a modulus that looks weak for all primes but the last
// is not.
func TestROCAAsksForEveryPrime(t *testing.T) {
	product := big.NewInt(1)
	for p := int64(2); p < 701; p++ {
		if big.NewInt(p).ProbablyPrime(0) {
			product.Mul(product, big.NewInt(p))
		}
	}
	n := new(big.Int).Lsh(big.NewInt(1), 2047)
	n.Sub(n, new(big.Int).Mod(n, product))
	n.Add(n, product)
	n.Add(n, new(big.Int).Exp(big.NewInt(65537), big.NewInt(1_000_003), product))
	last := big.NewInt(701)
	for new(big.Int).Mod(n, last).Sign() != 0 {
		n.Add(n, product)
	}
	m := newMaker(t)
	r := m.request(&rsa.PublicKey{N: n, E: 65537})
	if _, err := r.verify(t); err != nil || n.BitLen() != 2048 {
		t.Errorf("%d bits: %v", n.BitLen(), err)
	}
}
