package broker

import "crypto/x509"

// Caller is who is on the other end, as far as the transport proved it.
type Caller struct {
	RemoteIP  string // for limits and logs of strangers; never identity
	NodeID    string // of a verified node SVID, "" without
	SPIFFEID  string // of the verified client certificate, "" without
	Operator  string // "uid:<n>" through the admin socket, "operator:<name>" by role certificate, "" otherwise
	Role      Role   // what Operator may ask for
	RequestID string

	// Certificate is the verified node SVID, nil without one: whoever presents it
	// proved in this connection's handshake to hold its key.
	Certificate *x509.Certificate

	// Waiting is called once nothing is left to compute before the record is
	// committed, so that whoever gave the cores to this request may give them to
	// the next; nil for nobody. It may be called again.
	Waiting func()
}

func (c Caller) waits() {
	if c.Waiting != nil {
		c.Waiting()
	}
}

// Role says what an operator may ask for. Each one may what the one before may.
type Role string

// Roles of callers that are not hosts.
const (
	RoleNone     Role = ""
	RoleAuditor  Role = "auditor"  // reads
	RoleOperator Role = "operator" // reads, admits, approves, disables
	RoleAdmin    Role = "admin"    // the admin socket: hands out role certificates too
)
