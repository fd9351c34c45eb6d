package jwt

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	_ "crypto/sha256" // for crypto.SHA256
	_ "crypto/sha512" // for crypto.SHA384 and crypto.SHA512
	"math/big"
)

// hashes of the algorithms, by their last three digits (RFC 7518, 3.1).
var hashes = map[string]crypto.Hash{"256": crypto.SHA256, "384": crypto.SHA384, "512": crypto.SHA512}

// signedBy reports whether the key signed the text: an algorithm of RFC 7518, 3.3
// to 3.5, which fits the key. The header of the token is no argument: nothing that
// stands in it, a key least of all, can change the answer.
func (k *key) signedBy(alg string, text, signature []byte) bool {
	hash := hashes[alg[2:]]
	h := hash.New()
	h.Write(text)
	digest := h.Sum(nil)
	switch public := k.public.(type) {
	case *rsa.PublicKey:
		if alg[0] == 'P' {
			// 3.5: the salt is as long as the hash.
			return rsa.VerifyPSS(public, hash, digest, signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
		}
		return rsa.VerifyPKCS1v15(public, hash, digest, signature) == nil
	case *ecdsa.PublicKey:
		// 3.4: R and S, each in the length of the curve.
		size := (public.Params().BitSize + 7) / 8
		if len(signature) != 2*size {
			return false
		}
		return ecdsa.Verify(public, digest, new(big.Int).SetBytes(signature[:size]), new(big.Int).SetBytes(signature[size:]))
	}
	return false
}
