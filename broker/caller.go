package broker

// Caller is who is on the other end, as far as the transport proved it.
type Caller struct {
	RemoteIP  string // for limits and logs of strangers; never identity
	NodeID    string // of a verified node SVID, "" without
	SPIFFEID  string // of the verified client certificate, "" without
	Operator  string // "uid:<n>" through the admin socket, "" otherwise
	RequestID string
}
