package ima

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha1" // key ids; no signature counts by it
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"strings"
)

// security.ima: struct signature_v2_hdr of security/integrity/integrity.h, and
// enum evm_ima_xattr_type. Sizes in bytes, numbers big-endian.
const (
	xattrDigsig = 3 // EVM_IMA_XATTR_DIGSIG
	xattrVerity = 6 // IMA_VERITY_DIGSIG
	sigHead     = 9 // type, version, hash algorithm, key id (4), size (2)

	// maxForged ends the checking of signatures that do not verify: each costs what
	// a host that floods the list would have us pay.
	maxForged = 64

	minRSA = 2048 // bits
	maxRSA = 8192
)

// hashes are the algorithms of enum hash_algo (uapi/linux/hash_info.h) that a
// file's signature counts with.
var hashes = map[byte]struct {
	name string
	hash crypto.Hash
}{
	4: {"sha256", crypto.SHA256},
	5: {"sha384", crypto.SHA384},
	6: {"sha512", crypto.SHA512},
}

// key is a public key that may sign files. The kernel finds keys by four bytes;
// two ways of making them are in use: the end of the certificate's subject key
// identifier, and the end of SHA-1 over the key's bit string.
type key struct {
	ids    [2]uint32
	public crypto.PublicKey
}

// addKey reads one PEM block.
func (r *Rules) addKey(text string) error {
	block, rest := pem.Decode([]byte(text))
	if block == nil || strings.TrimSpace(string(rest)) != "" {
		return errors.New("not one PEM block: CERTIFICATE or PUBLIC KEY")
	}
	var k key
	spki := block.Bytes
	switch block.Type {
	case "CERTIFICATE":
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return errors.New("the PEM block holds no certificate that can be read")
		}
		spki = cert.RawSubjectPublicKeyInfo
		k.ids[1] = keyID(cert.SubjectKeyId)
	case "PUBLIC KEY":
	default:
		return errors.New("a PEM block of type " + clipped(block.Type) + "; wanted CERTIFICATE or PUBLIC KEY")
	}
	var err error
	if k.public, err = x509.ParsePKIXPublicKey(spki); err != nil {
		return errors.New("the PEM block holds no public key that can be read")
	}
	switch pub := k.public.(type) {
	case *rsa.PublicKey:
		if n := pub.N.BitLen(); n < minRSA || n > maxRSA {
			return errors.New("an RSA key must have 2048 to 8192 bits")
		}
	case *ecdsa.PublicKey:
		if pub.Curve != elliptic.P256() && pub.Curve != elliptic.P384() {
			return errors.New("an ECDSA key must be on P-256 or P-384")
		}
	default:
		return errors.New("only RSA and ECDSA keys can sign files")
	}
	var info struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(spki, &info); err != nil {
		return errors.New("the PEM block holds no public key that can be read")
	}
	sum := sha1.Sum(info.Key.Bytes)
	k.ids[0] = keyID(sum[:])
	r.keys = append(r.keys, k)
	return nil
}

func keyID(b []byte) uint32 {
	if len(b) < 4 {
		return 0
	}
	return binary.BigEndian.Uint32(b[len(b)-4:])
}

// signed checks security.ima of a file against the listed keys; the result says
// why not, "" where a key vouches for the digest.
func (c *checker) signed(f *fields) string {
	s := f.sig
	if len(s) < sigHead || int(binary.BigEndian.Uint16(s[7:])) != len(s)-sigHead {
		return "has a signature of impossible form"
	}
	alg, known := hashes[s[2]]
	switch {
	case s[0] != xattrDigsig && s[0] != xattrVerity:
		return "carries no signature over its content"
	case !known:
		return "has a signature with a hash algorithm that is not accepted"
	case alg.name != string(f.algorithm):
		return "was measured with another hash algorithm than it was signed with"
	case f.verity != (s[0] == xattrVerity):
		return "has a signature over another kind of digest"
	}
	digest := f.digest
	switch {
	case s[1] == 2 && s[0] == xattrDigsig:
	case s[1] == 3:
		// struct ima_file_id: type, algorithm, digest; its hash is what is signed.
		h := alg.hash.New()
		h.Write([]byte{s[0], s[2]})
		h.Write(f.digest)
		digest = h.Sum(nil)
	default:
		return "has a signature of a version that is not known"
	}
	return c.verify(binary.BigEndian.Uint32(s[3:]), alg.hash, digest, s[sigHead:])
}

func (c *checker) verify(id uint32, hash crypto.Hash, digest, sig []byte) string {
	tried := false
	for _, k := range c.keys {
		if k.ids[0] != id && k.ids[1] != id {
			continue
		}
		if c.forged >= maxForged {
			return "has a signature, and too many before it did not verify"
		}
		tried = true
		switch pub := k.public.(type) {
		case *rsa.PublicKey:
			if rsa.VerifyPKCS1v15(pub, hash, digest, sig) == nil {
				return ""
			}
		case *ecdsa.PublicKey:
			if ecdsa.VerifyASN1(pub, digest, sig) {
				return ""
			}
		}
		c.forged++
	}
	if tried {
		return "has a signature that the listed key of its id did not make"
	}
	return "is signed by a key that is not listed"
}
