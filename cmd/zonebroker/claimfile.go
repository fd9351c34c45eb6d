package main

import (
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"github.com/zonebroker/zonebroker/broker/claim"
)

// maxSVID bounds a file that may come from anybody.
const maxSVID = 256 << 10

// svidFile is what stands in a file: a chain, leaf first, or a token.
type svidFile struct {
	chain []*x509.Certificate
	token string
}

// shownClaim is a claim as it is printed.
type shownClaim struct {
	id                  string
	notBefore, notAfter time.Time
	claims              claim.Claims
	token               *shownToken // nil for a certificate
	verified, stale     bool
}

// shownToken is what only a JWT-SVID says.
type shownToken struct {
	Audience string `json:"audience"`
	Issuer   string `json:"issuer"`
	ID       string `json:"id"`       // of the record in the history
	BoundTo  string `json:"bound_to"` // hex SHA-256 of the node's SVID, "" for a bearer token
}

var compactJWS = regexp.MustCompile(`^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*$`)

// readSVID reads a file, or standard input for "-".
func readSVID(in io.Reader, path string) (svidFile, error) {
	raw, err := readInput(in, path)
	if err != nil {
		return svidFile{}, err
	}
	if text := strings.TrimSpace(string(raw)); compactJWS.MatchString(text) {
		return svidFile{token: text}, nil
	}
	chain, err := parseCertificates(raw, path)
	return svidFile{chain: chain}, err
}

func readInput(in io.Reader, path string) ([]byte, error) {
	if path != "-" {
		return readCapped(path, maxSVID)
	}
	raw, err := io.ReadAll(io.LimitReader(in, maxSVID+1))
	if err == nil && len(raw) > maxSVID {
		err = fmt.Errorf("standard input: larger than %d bytes", maxSVID)
	}
	return raw, err
}

// inspect reads the claim without verifying anything.
func (s svidFile) inspect() (shownClaim, error) {
	if s.token != "" {
		u, err := claim.ParseJWTInsecure(s.token)
		return ofToken(u.Token, u.Claims), err
	}
	c, err := claim.FromCertificateInsecure(s.chain[0])
	return ofCertificate(s.chain[0], c), err
}

// trustDomain is the one whose bundle can verify the file.
func (s svidFile) trustDomain() (spiffeid.TrustDomain, error) {
	if s.token == "" {
		id, err := x509svid.IDFromCert(s.chain[0])
		if err != nil {
			return spiffeid.TrustDomain{}, errors.New("the certificate has no SPIFFE ID")
		}
		return id.TrustDomain(), nil
	}
	u, err := claim.ParseJWTInsecure(s.token)
	if err != nil {
		return spiffeid.TrustDomain{}, err
	}
	id, err := spiffeid.FromString(u.Token.Subject)
	return id.TrustDomain(), err
}

func (s svidFile) verify(bundle *spiffebundle.Bundle, want expected) (shownClaim, error) {
	if s.token != "" {
		v, err := claim.VerifyJWT(s.token, bundle.JWTBundle(), want.audience, want.now)
		if err != nil {
			return shownClaim{}, err
		}
		u, err := claim.ParseJWTInsecure(s.token) // verified above
		out := ofToken(u.Token, v.Claims())
		out.verified = true
		return out, err
	}
	v, err := claim.Verify(s.chain, bundle.X509Bundle(), want.now, claim.WithGrace(want.grace))
	if err != nil {
		return shownClaim{}, err
	}
	out := ofCertificate(s.chain[0], v.Claims())
	out.verified, out.stale = true, v.Stale()
	return out, nil
}

func ofCertificate(leaf *x509.Certificate, c claim.Claims) shownClaim {
	out := shownClaim{claims: c, notBefore: leaf.NotBefore, notAfter: leaf.NotAfter}
	if len(leaf.URIs) > 0 {
		out.id = leaf.URIs[0].String()
	}
	return out
}

func ofToken(t claim.Token, c claim.Claims) shownClaim {
	return shownClaim{
		id: t.Subject, claims: c, notAfter: time.Unix(t.Expires, 0),
		notBefore: time.Unix(t.IssuedAt, 0).Add(-claim.JWTBackdate),
		token:     &shownToken{t.Audience, t.Issuer, t.ID, hex.EncodeToString(t.X5T)},
	}
}

// parseCertificates reads PEM (other blocks, such as the key beside an SVID, are
// skipped) or a single DER certificate.
func parseCertificates(raw []byte, path string) ([]*x509.Certificate, error) {
	var chain []*x509.Certificate
	for rest := raw; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		chain = append(chain, c)
	}
	if len(chain) > 0 {
		return chain, nil
	}
	c, err := x509.ParseCertificate(raw)
	if err != nil {
		return nil, fmt.Errorf("%s holds no certificate in PEM or DER, and no token", path)
	}
	return []*x509.Certificate{c}, nil
}
