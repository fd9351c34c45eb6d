// Package x509pop judges a certificate of an existing PKI with proof that its key
// is at hand: the key signs the bound value of the challenge. It starts a
// migration from a PKI that stands, or from SPIRE's attestor of the same name.
//
// It proves that the holder of the key asks now, and no more of the machine than
// the CA vouched for: a key in a file can be copied, and then two machines are one
// node. Class B.
package x509pop
