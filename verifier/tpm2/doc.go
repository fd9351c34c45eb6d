// Package tpm2 judges TPM 2.0 structures: it decodes attester bytes strictly,
// verifies that a restricted key of one TPM signed them, and hands out values
// that only such a verification can make.
//
// It trusts the caller for what is expected (the Name of the AK, the qualifying
// data, the PCR selection) and nothing that the evidence says about itself. It
// says nothing about whether the TPM is genuine (package ekcert), whether the
// PCRs are good (package eventlog, policy), or whether a quote is fresh: that
// lies in the nonce behind the qualifying data.
//
// All structures are in TPM canonical form (TPM 2.0 Library Part 2: big-endian,
// sized buffers), without the outer TPM2B size. Everything is bounded before it
// is read: a public area and an attestation take at most 1 KiB, a signature at
// most 600 bytes; more is request.too_large. go-tpm's decoder is not used on
// foreign bytes, since it accepts a wrong magic and trailing bytes.
package tpm2
