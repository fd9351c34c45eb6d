// Package client is the HTTP client of a broker, for agents and anyone's Go
// code: HTTP/2 over TLS 1.3, with the broker authenticated by its SPIFFE ID
// before a single byte of evidence is sent.
//
// There is no insecure default and no trust on first use: a client without a
// trust anchor, a pin or a SPIFFE bundle is not made. The system's certificate
// authorities are never asked, so a public CA cannot vouch for a broker.
package client
