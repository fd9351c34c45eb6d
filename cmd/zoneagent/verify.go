package main

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/zonebroker/zonebroker/broker/client"
	"github.com/zonebroker/zonebroker/cmd/internal/terminal"
)

func verifyBrokerCommand() *cobra.Command {
	var (
		f       brokerFlags
		output  string
		timeout time.Duration
	)
	cmd := &cobra.Command{
		Use:   "verify-broker",
		Short: "Say who stands at the broker's address and whether this host would trust them",
		Long: `verify-broker connects to the broker's address, sends nothing of this host, and
prints the certificate chain, the SPIFFE ID and the pin of the last certificate,
and whether the given anchor, pin or bundle vouches for it.

Without an anchor, a pin or a bundle it shows who is there and trusts nobody:
compare the pin with the one that the operator of the broker tells you.

It exits with 0 if this host would trust the broker, 5 if not, 4 if nobody
answers.`,
		Example: `  zoneagent verify-broker --server https://broker.example.org:8443 --anchor /etc/zoneagent/anchor.pem
  zoneagent verify-broker --server https://broker.example.org:8443 -o json`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkOutput(output); err != nil {
				return err
			}
			if err := f.needServer(); err != nil {
				return err
			}
			trust, err := f.trust()
			if err != nil {
				return err
			}
			found, err := client.Inspect(cmd.Context(), client.Config{Server: f.server, Trust: trust, TrustDomain: f.trustDomain, Timeout: timeout})
			if err != nil {
				return err
			}
			return printInspection(cmd, output, found)
		},
	}
	f.register(cmd)
	registerOutput(cmd, &output)
	cmd.Flags().DurationVar(&timeout, "timeout", 30*time.Second, "give up after this time")
	return cmd
}

// inspection is the JSON of what stands at an address. Everything but server is
// what that server says, unless trusted is true.
type inspection struct {
	Server   string     `json:"server"`
	Protocol string     `json:"protocol"`
	SPIFFEID string     `json:"spiffe_id"`
	Trusted  bool       `json:"trusted"`
	Way      string     `json:"way"` // "anchor", "pin" or "bundle"; "" if not trusted
	Pin      string     `json:"pin"` // of whoever vouches; of the last certificate if not trusted
	Why      string     `json:"why"` // why it is not trusted
	Chain    []certFact `json:"chain"`
}

type certFact struct {
	Subject   string    `json:"subject"`
	SPIFFEID  string    `json:"spiffe_id"`
	Issuer    string    `json:"issuer"`
	CA        bool      `json:"ca"`
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	SHA256    string    `json:"sha256"`
	Pin       string    `json:"pin"`
}

func factsOf(c *x509.Certificate) certFact {
	sum := sha256.Sum256(c.Raw)
	var ids []string
	for _, u := range c.URIs {
		ids = append(ids, u.String())
	}
	return certFact{
		Subject: c.Subject.String(), SPIFFEID: strings.Join(ids, " "), Issuer: c.Issuer.String(), CA: c.IsCA,
		NotBefore: c.NotBefore.UTC(), NotAfter: c.NotAfter.UTC(), SHA256: hex.EncodeToString(sum[:]), Pin: client.PinOf(c),
	}
}

func printInspection(cmd *cobra.Command, output string, found client.Inspection) error {
	out := inspection{
		Server: found.Server, Protocol: found.Version, Trusted: found.Err == nil,
		Way: found.Peer.Way(), Pin: found.Peer.Pin(), Chain: []certFact{},
	}
	for _, c := range found.Chain {
		out.Chain = append(out.Chain, factsOf(c))
	}
	if len(out.Chain) > 0 {
		out.SPIFFEID = out.Chain[0].SPIFFEID
	}
	if found.Err != nil {
		out.Why = found.Err.Error()
		if len(out.Chain) > 0 {
			out.Pin = out.Chain[len(out.Chain)-1].Pin
		}
	}
	print := printInspectionTable
	if output == asJSON {
		print = func(cmd *cobra.Command, out inspection) error { return terminal.JSON(cmd.OutOrStdout(), out) }
	}
	if err := print(cmd, out); err != nil {
		return err
	}
	if found.Err != nil {
		return unproved{out.Why}
	}
	return nil
}

func printInspectionTable(cmd *cobra.Command, out inspection) error {
	rows := [][2]string{{"server", out.Server}, {"protocol", out.Protocol}}
	for i, c := range out.Chain {
		who := c.SPIFFEID
		if who == "" {
			who = c.Subject
		}
		if who == "" {
			who = "without a name"
		}
		rows = append(
			rows,
			[2]string{fmt.Sprintf("certificate %d", i), who},
			[2]string{"  issuer", c.Issuer},
			[2]string{"  valid", c.NotBefore.Format(time.RFC3339) + " to " + c.NotAfter.Format(time.RFC3339)},
			[2]string{"  pin", c.Pin},
		)
	}
	if out.Trusted {
		rows = append(rows, [2]string{"trusted", "yes: " + out.SPIFFEID + ", by " + out.Way + " " + out.Pin})
	} else {
		rows = append(rows, [2]string{"trusted", "no: " + out.Why})
	}
	return terminal.Rows(cmd.OutOrStdout(), rows)
}
