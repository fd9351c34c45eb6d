package main

import (
	"net"
	"net/netip"
	"net/url"
)

// issuerURL is the iss of tokens for a broker that listens at address. A
// listener on all addresses has none that a reader could go to, so that there it
// is good for readers on this machine, until oidc_issuer names another.
func (c *config) issuerURL(address string) string {
	if c.OIDCIssuer != "" {
		return c.OIDCIssuer
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "https://" + address
	}
	return "https://" + net.JoinHostPort(nameable(host), port)
}

// hostNames are the hosts that the TLS certificate speaks for: that of the
// listener and that of oidc_issuer. Agents do not need them, readers of the OIDC
// documents do.
func (c *config) hostNames() []string {
	var out []string
	if host, _, err := net.SplitHostPort(c.Listen); err == nil {
		out = append(out, nameable(host))
	}
	if u, err := url.Parse(c.OIDCIssuer); err == nil && u.Hostname() != "" {
		out = append(out, u.Hostname())
	}
	return out
}

// nameable gives a listener on all addresses a name.
func nameable(host string) string {
	if addr, err := netip.ParseAddr(host); host == "" || err == nil && addr.IsUnspecified() {
		return "localhost"
	}
	return host
}
