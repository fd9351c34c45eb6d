package ima

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha1" // key ids; no signature counts by it
	"crypto/sha256"
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

	// maxVerified bounds what a checker remembers, to half a megabyte. A request's
	// list has room for hardly more signed entries.
	maxVerified = 1 << 14

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
	verify func(hash crypto.Hash, digest, sig []byte) bool
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
	public, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return errors.New("the PEM block holds no public key that can be read")
	}
	switch pub := public.(type) {
	case *rsa.PublicKey:
		if n := pub.N.BitLen(); n < minRSA || n > maxRSA {
			return errors.New("an RSA key must have 2048 to 8192 bits")
		}
		k.verify = func(hash crypto.Hash, digest, sig []byte) bool {
			return rsa.VerifyPKCS1v15(pub, hash, digest, sig) == nil
		}
	case *ecdsa.PublicKey:
		if pub.Curve != elliptic.P256() && pub.Curve != elliptic.P384() {
			return errors.New("an ECDSA key must be on P-256 or P-384")
		}
		k.verify = func(_ crypto.Hash, digest, sig []byte) bool { return ecdsa.VerifyASN1(pub, digest, sig) }
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
	for i, k := range c.keys {
		if k.ids[0] != id && k.ids[1] != id {
			continue
		}
		seen := signatureID(i, hash, digest, sig)
		if c.verified[seen] {
			return ""
		}
		if c.forged >= maxForged {
			return "has a signature, and too many before it did not verify"
		}
		tried = true
		if k.verify(hash, digest, sig) {
			c.remember(seen)
			return ""
		}
		c.forged++
	}
	if tried {
		return "has a signature that the listed key of its id did not make"
	}
	return "is signed by a key that is not listed"
}

// signatureID names one verification. The hash fixes the length of the digest, so
// that no two share a name.
func signatureID(key int, hash crypto.Hash, digest, sig []byte) [sha256.Size]byte {
	var room [1 << 9]byte
	b := binary.BigEndian.AppendUint32(room[:0], uint32(key))
	b = append(append(append(b, byte(hash)), digest...), sig...)
	return sha256.Sum256(b)
}

// remember has a copy of a good record cost a look-up: a host can fill its list
// with one that verifies, and each verification costs up to half a millisecond.
func (c *checker) remember(id [sha256.Size]byte) {
	if c.verified == nil {
		c.verified = map[[sha256.Size]byte]bool{}
	}
	if len(c.verified) < maxVerified {
		c.verified[id] = true
	}
}
