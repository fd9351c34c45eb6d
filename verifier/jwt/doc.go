// Package jwt verifies signed tokens of platforms by one strict profile: JWS
// compact serialization (RFC 7515, 7.1) with the claims of RFC 7519, under keys
// that are configured as data. It decides that a token is what a configured
// issuer signed for this audience and time; what its other claims mean is up to
// the package of the format.
//
// It trusts the configured issuers and the caller's clock. Keys and URLs in the
// token (jwk, jku, x5u, x5c) are never used, and nothing is fetched. Every key
// that could verify is found by its id before any signature is computed, at most
// four of them.
//
// The checks and their codes, in order: request.too_large, jwt.malformed for the
// parts and the header, jwt.alg, jwt.crit, jwt.kid (no issuer at all too),
// jwt.key_use, jwt.alg again for an algorithm that is not the key's, jwt.signature,
// jwt.malformed for the claims, jwt.issuer, jwt.audience, jwt.expired, jwt.lifetime (a time
// is missing), jwt.lifetime (too long), jwt.issued_at (in the future),
// jwt.lifetime (it ends before it begins), jwt.issued_at (before the challenge).
// Claims are parsed only after the signature verified.
package jwt
