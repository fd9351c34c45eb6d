package api

import "time"

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
