package api

import (
	"regexp"
	"time"
)

// SVIDRequest asks for an X.509-SVID of a workload of this host, over mTLS with
// the node's SVID. The CSR proves possession of the workload's key; names and
// extensions in it are not taken over, and ones that differ from what will be
// issued are refused.
type SVIDRequest struct {
	Workload string `json:"workload"` // name of a workload that the node's zone lists
	CSR      Bytes  `json:"csr"`      // PKCS#10 DER, at most MaxCSR
}

// SVIDResponse is an X.509-SVID of a workload.
type SVIDResponse struct {
	RecordID   string      `json:"record_id"`
	SPIFFEID   string      `json:"spiffe_id"`
	Workload   string      `json:"workload"`
	Chain      []Bytes     `json:"chain"` // DER, leaf first, without the root
	AttestedAt time.Time   `json:"attested_at"`
	FreshUntil time.Time   `json:"fresh_until"`
	ExpiresAt  time.Time   `json:"expires_at"`
	Log        LogPosition `json:"log"`
}

// JWTRequest asks for a JWT-SVID for one audience, of the node itself or of one
// of its workloads, over mTLS with the node's SVID.
type JWTRequest struct {
	Audience string `json:"audience"`
	Workload string `json:"workload,omitempty"` // "" for the node itself
}

// JWTResponse is a JWT-SVID. It ends at the latest with fresh_until.
type JWTResponse struct {
	RecordID   string      `json:"record_id"`
	SPIFFEID   string      `json:"spiffe_id"`
	Workload   string      `json:"workload,omitempty"`
	Audience   string      `json:"audience"`
	Token      string      `json:"token"` // compact JWS
	AttestedAt time.Time   `json:"attested_at"`
	FreshUntil time.Time   `json:"fresh_until"`
	ExpiresAt  time.Time   `json:"expires_at"`
	Log        LogPosition `json:"log"`
}

// MaxAudience is the longest audience, in bytes.
const MaxAudience = 255

var (
	workloadForm = regexp.MustCompile(`^[A-Za-z0-9._-]{1,128}$`) // a segment of a SPIFFE ID, as zones name workloads
	audienceForm = regexp.MustCompile(`^[!-~]+$`)                // visible ASCII
)

// Validate wants the name of a workload and a request of at most MaxCSR bytes.
func (r SVIDRequest) Validate() error {
	var c checks
	c.form("/workload", r.Workload, workloadForm)
	c.required("/csr", len(r.CSR), MaxCSR)
	return c.err
}

// Validate wants an audience of 1 to MaxAudience bytes of visible ASCII.
func (r JWTRequest) Validate() error {
	var c checks
	c.required("/audience", len(r.Audience), MaxAudience)
	c.form("/audience", r.Audience, audienceForm)
	if r.Workload != "" {
		c.form("/workload", r.Workload, workloadForm)
	}
	return c.err
}
