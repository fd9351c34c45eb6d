package agent_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/claim"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// door lets nobody in while the broker is away.
type door struct {
	net.Listener
	b *broker
}

func (d *door) Accept() (net.Conn, error) {
	for {
		c, err := d.Listener.Accept()
		if err != nil {
			return nil, err
		}
		d.b.mu.Lock()
		away := d.b.away
		d.b.conns++
		d.b.mu.Unlock()
		if !away {
			return c, nil
		}
		c.Close()
	}
}

// leave takes the broker away: connections end, new ones are closed at once.
func (b *broker) leave() {
	b.mu.Lock()
	b.away = true
	b.mu.Unlock()
	b.listening.CloseClientConnections()
}

func (b *broker) comeBack() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.away = false
}

func (b *broker) with(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
}

// accepted is how many attestations were asked for.
func (b *broker) accepted() (n int) {
	b.with(func() { n = len(b.attests) })
	return n
}

func (b *broker) askedLater() (n int) {
	b.with(func() { n = len(b.later) })
	return n
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// answerLater gives SVIDs of workloads, as strict as the product about whose
// certificate comes with the request.
func (b *broker) answerLater(r *http.Request) (any, error) {
	var (
		svid api.SVIDRequest
		jwt  api.JWTRequest
		err  error
	)
	switch r.URL.Path {
	case "/v1/svid":
		err = decodeBody(r, &svid)
	case "/v1/jwt":
		err = decodeBody(r, &jwt)
	default:
		return nil, reason.New(reason.RequestNotFound, "no route")
	}
	if err != nil {
		return nil, err
	}
	caller, node, err := b.caller(r)
	if err != nil {
		return nil, err
	}
	if r.URL.Path == "/v1/svid" {
		b.later = append(b.later, svid)
		return b.giveSVID(svid, caller, node)
	}
	b.later = append(b.later, jwt)
	return b.giveJWT(jwt, caller, node)
}

func (b *broker) caller(r *http.Request) (*x509.Certificate, claim.Zone, error) {
	if len(r.TLS.PeerCertificates) == 0 {
		return nil, claim.Zone{}, reason.New(reason.AuthRequired, "no certificate")
	}
	leaf := r.TLS.PeerCertificates[0]
	c, err := claim.FromCertificateInsecure(leaf)
	if err != nil {
		return nil, claim.Zone{}, err
	}
	for _, n := range b.nodes {
		if n.id == c.Zone.Node && n.last == c.Zone.AttestationID {
			return leaf, c.Zone, nil
		}
	}
	return nil, claim.Zone{}, reason.New(reason.AuthInvalid, "not the node's last attestation; renew")
}

func (b *broker) lists(workload string) bool {
	for _, w := range b.workloads {
		if w.Name == workload {
			return true
		}
	}
	return false
}

func (b *broker) giveSVID(req api.SVIDRequest, _ *x509.Certificate, z claim.Zone) (out api.SVIDResponse, err error) {
	if b.refuseLater != nil {
		if err := b.refuseLater(req); err != nil {
			return out, err
		}
	}
	csr, err := x509.ParseCertificateRequest(req.CSR)
	if err != nil || csr.CheckSignature() != nil || len(csr.Extensions) > 0 {
		return out, reason.New(reason.RequestMalformed, "the CSR")
	}
	if !b.lists(req.Workload) {
		return out, reason.New(reason.PolicyIdentityInvalid, "no such workload")
	}
	z.Key = "software"
	fresh := time.Unix(z.FreshUntil, 0)
	until := earlier(b.now().Add(time.Hour), fresh.Add(b.grace))
	id := "spiffe://" + trustDomain + "/zone/lab/workload/" + req.Workload
	out = api.SVIDResponse{
		RecordID: uuid.NewString(), SPIFFEID: id, Workload: req.Workload, FreshUntil: fresh, ExpiresAt: until,
		Chain: []api.Bytes{b.svid(id, req.Workload, b.claims(z), csr.PublicKey, until).Raw},
	}
	if b.spoilLater != nil {
		b.spoilLater(&out, nil)
	}
	return out, nil
}

func (b *broker) giveJWT(req api.JWTRequest, caller *x509.Certificate, z claim.Zone) (out api.JWTResponse, err error) {
	b.lastCaller, b.lastZone = caller, z
	if b.refuseLater != nil {
		if err := b.refuseLater(req); err != nil {
			return out, err
		}
	}
	if req.Audience != "api" && req.Audience != "other" {
		return out, reason.New(reason.PolicyAudience, "the zone does not allow this audience")
	}
	if !b.lists(req.Workload) {
		return out, reason.New(reason.PolicyIdentityInvalid, "no such workload")
	}
	now := b.now()
	fresh := time.Unix(z.FreshUntil, 0)
	expires := earlier(now.Add(5*time.Minute), fresh)
	sum := sha256.Sum256(caller.Raw)
	z.Key = "software"
	id := "spiffe://" + trustDomain + "/zone/lab/workload/" + req.Workload
	payload, err := claim.EncodeJWT(b.claims(z), claim.Token{
		Subject: id, Audience: req.Audience, ID: uuid.NewString(), IssuedAt: now.Unix(), Expires: expires.Unix(), X5T: sum[:],
	})
	if err != nil {
		return out, err
	}
	out = api.JWTResponse{RecordID: uuid.NewString(), SPIFFEID: id, Workload: req.Workload, Audience: req.Audience, FreshUntil: fresh, ExpiresAt: expires}
	out.Token = b.jws(payload)
	if b.spoilLater != nil {
		b.spoilLater(nil, &out)
	}
	return out, nil
}

func (b *broker) jws(payload []byte) string {
	input := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"ES256","kid":"jwt-1","typ":"JWT"}`)) + "." + base64.RawURLEncoding.EncodeToString(payload)
	hash := sha256.Sum256([]byte(input))
	r, s, err := ecdsa.Sign(rand.Reader, b.jwtKey.key, hash[:])
	if err != nil {
		b.t.Error(err)
	}
	signature := make([]byte, 64)
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return input + "." + base64.RawURLEncoding.EncodeToString(signature)
}

func (b *broker) claims(z claim.Zone) claim.Claims {
	measured := claim.Measured{PolicyID: "urn:zonebroker:policy:lab:1:sha256:00"}.Submod()
	return claim.Claims{
		VerifierID: claim.VerifierID{Developer: "https://example.org", Build: "test"}, Status: measured.Status,
		Submods: map[string]claim.Submod{claim.SubmodTPM: measured}, IssuedAt: b.now().Unix(), Zone: z,
	}
}

func (b *broker) svid(id, name string, c claim.Claims, public any, until time.Time) *x509.Certificate {
	ext, err := claim.EncodeCMW(c)
	if err != nil {
		b.t.Error(err)
	}
	now := b.now()
	return signed(b.t, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		URIs:        names(id), ExtraExtensions: []pkix.Extension{ext}, NotBefore: now.Add(-time.Minute), NotAfter: until,
	}, &b.ca, nil, public, now)
}

func (b *broker) bundle() json.RawMessage {
	bundle := spiffebundle.FromX509Authorities(spiffeid.RequireTrustDomainFromString(trustDomain), []*x509.Certificate{b.ca.cert})
	if err := bundle.AddJWTAuthority("jwt-1", b.jwtKey.key.Public()); err != nil {
		b.t.Error(err)
	}
	document, err := bundle.Marshal()
	if err != nil {
		b.t.Error(err)
	}
	return bytes.TrimSpace(document)
}

type zoneOf = claim.Zone

// same issues an SVID again for the same key, with another name or claim.
func (b *broker) same(der []byte, id string, change func(*zoneOf)) *x509.Certificate {
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		b.t.Error(err)
	}
	return b.again(leaf, id, change, leaf.PublicKey)
}

func (b *broker) again(leaf *x509.Certificate, id string, change func(*zoneOf), public any) *x509.Certificate {
	c, err := claim.FromCertificateInsecure(leaf)
	if err != nil {
		b.t.Error(err)
	}
	change(&c.Zone)
	return b.svid(id, "x", c, public, leaf.NotAfter)
}

// resign signs a token again with the key of now.
func (b *broker) resign(a *api.JWTResponse) {
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(a.Token, ".")[1])
	if err != nil {
		b.t.Error(err)
	}
	a.Token = b.jws(payload)
}
