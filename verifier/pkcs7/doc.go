// Package pkcs7 reads a signed message (RFC 2315, SignedData; RFC 5652, 5) in the
// one form in which clouds sign documents: one signer, SHA-256 with RSA, the
// content inside. It judges the signature under a certificate that the caller
// trusts already, and hands over the signed bytes and nothing else.
//
// Certificates in the message are candidates and never trusted: who signed is
// found by issuer and serial number among the caller's certificates, and the
// signature is verified with that key alone. A message whose bag holds another
// certificate under a trusted issuer and serial number is refused.
//
// The attribute signingTime is not read: who signs chooses it.
package pkcs7
