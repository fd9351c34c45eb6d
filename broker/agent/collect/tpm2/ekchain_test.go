package tpm2collect_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-tpm/tpm2"

	tpm2collect "github.com/zonebroker/zonebroker/broker/agent/collect/tpm2"
)

// define makes an NV index that everybody may read, as firmware does.
func (s *software) define(t *testing.T, index uint32, content []byte) {
	t.Helper()
	raw := s.raw(t)
	public := tpm2.TPMSNVPublic{
		NVIndex: tpm2.TPMHandle(index), NameAlg: tpm2.TPMAlgSHA256, DataSize: uint16(len(content)),
		Attributes: tpm2.TPMANV{OwnerWrite: true, OwnerRead: true, AuthRead: true, NoDA: true},
	}
	owner := tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)}
	if _, err := (tpm2.NVDefineSpace{AuthHandle: owner, PublicInfo: tpm2.New2B(public)}).Execute(raw); err != nil {
		t.Fatal(err)
	}
	for offset := 0; offset < len(content); offset += 512 {
		read, err := tpm2.NVReadPublic{NVIndex: tpm2.TPMHandle(index)}.Execute(raw)
		if err != nil {
			t.Fatal(err)
		}
		_, err = tpm2.NVWrite{
			AuthHandle: owner, NVIndex: tpm2.NamedHandle{Handle: tpm2.TPMHandle(index), Name: read.NVName},
			Data: tpm2.TPM2BMaxNVBuffer{Buffer: content[offset:min(offset+512, len(content))]}, Offset: uint16(offset),
		}.Execute(raw)
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestIssuersInNV: they lie over index boundaries, with fill bytes behind.
func TestIssuersInNV(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var issuers [][]byte
	for range 5 {
		template := &x509.Certificate{IsCA: true, BasicConstraintsValid: true}
		issuers = append(issuers, issue(t, template, template, key.Public(), key).Raw)
	}
	notOne := []byte{0x30, 3, 2, 1, 7}
	for name, c := range map[string]struct {
		content []byte
		want    [][]byte
	}{
		"one":                     {issuers[0], issuers[:1]},
		"two_and_fill":            {append(bytes.Join(issuers[:2], nil), 0xff, 0xff, 0xff), issuers[:2]},
		"never_more_than_four":    {bytes.Join(issuers, nil), issuers[:4]},
		"something_else_between":  {bytes.Join([][]byte{issuers[0], notOne, issuers[1]}, nil), issuers[:2]},
		"cut":                     {issuers[0][:len(issuers[0])-1], nil},
		"no_certificate_anywhere": {notOne, nil},
	} {
		t.Run(name, func(t *testing.T) {
			tpm := startTPM(t, manufacture(t))
			half := (len(c.content) + 1) / 2
			tpm.define(t, 0x01c00100, c.content[:half])
			tpm.define(t, 0x01c00101, c.content[half:])
			ek, err := tpm.open(t, tpm2collect.Config{}).EK(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, ek.Chain); diff != "" {
				t.Error(diff)
			}
		})
	}
}
