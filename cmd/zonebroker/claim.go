package main

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"github.com/zonebroker/zonebroker/broker/claim"
	"github.com/zonebroker/zonebroker/cmd/internal/terminal"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// maxCertificates and maxBundle bound files that may come from anybody.
const (
	maxCertificates = 256 << 10
	maxBundle       = 4 << 20
)

func newClaimCmd() *cobra.Command {
	return group("claim", "The zone claim inside an SVID: inspect, verify",
		"Claim reads the zone claim of an X.509-SVID. It needs no broker.",
		"  zonebroker claim verify svid.pem --bundle bundle.json", claimInspectCmd(), claimVerifyCmd())
}

func claimInspectCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "inspect FILE",
		Short:   "Print what an SVID claims, without verifying anything",
		Long:    "Inspect prints the zone claim of the first certificate in FILE (PEM or DER). It\nverifies nothing: anybody can write such a certificate.",
		Example: "  zonebroker claim inspect svid.pem -o json",
		Args:    cobra.ExactArgs(1),
	}
	output := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		chain, err := readCertificates(args[0])
		if err != nil {
			return err
		}
		c, err := claim.FromCertificateInsecure(chain[0])
		if err != nil {
			return fmt.Errorf("%s: %w", args[0], err)
		}
		fmt.Fprintln(cmd.ErrOrStderr(), "not verified: zonebroker claim verify FILE --bundle BUNDLE does")
		return printClaim(cmd.OutOrStdout(), *output, shownClaim{leaf: chain[0], claims: c}, time.Now())
	}
	return cmd
}

func claimVerifyCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "verify FILE --bundle BUNDLE",
		Short: "Verify an SVID and its zone claim as a relying party does",
		Long: `Verify checks the chain in FILE (PEM or DER, leaf first) against a SPIFFE bundle,
and that the zone claim belongs to the SPIFFE ID and is fresh. It exits 5 when
something does not hold. --at answers for another time, --grace says whether a
claim past fresh_until still counts: never, outage_only or always.`,
		Example: `  zonebroker claim verify svid.pem --bundle bundle.json
  zonebroker claim verify svid.pem --bundle bundle.json --at 2026-11-20T12:00:00Z --grace always`,
		Args: cobra.ExactArgs(1),
	}
	output := outputFlag(cmd)
	f := cmd.Flags()
	bundle := f.String("bundle", "", "SPIFFE bundle document of the trust domain")
	at := f.String("at", "", "time to verify at, RFC 3339 (default: now)")
	grace := f.String("grace", string(claim.GraceNever), "never, outage_only or always")
	_ = cmd.MarkFlagRequired("bundle")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		now := time.Now()
		if *at != "" {
			t, err := time.Parse(time.RFC3339, *at)
			if err != nil {
				return usageError{"--at: want RFC 3339 such as 2026-11-20T12:00:00Z"}
			}
			now = t
		}
		switch claim.Grace(*grace) {
		case claim.GraceNever, claim.GraceOutageOnly, claim.GraceAlways:
		default:
			return usageError{"--grace: want never, outage_only or always"}
		}
		return verifyClaim(cmd, *output, args[0], *bundle, claim.Grace(*grace), now)
	}
	return cmd
}

func verifyClaim(cmd *cobra.Command, output format, file, bundleFile string, grace claim.Grace, now time.Time) error {
	chain, err := readCertificates(file)
	if err != nil {
		return err
	}
	id, err := x509svid.IDFromCert(chain[0])
	if err != nil {
		return unproved{reason.AuthInvalid, file + ": the certificate has no SPIFFE ID"}
	}
	raw, err := readCapped(bundleFile, maxBundle)
	if err != nil {
		return err
	}
	bundle, err := spiffebundle.Parse(id.TrustDomain(), raw)
	if err != nil {
		return fmt.Errorf("%s is not a SPIFFE bundle: %w", bundleFile, err)
	}
	v, err := claim.Verify(chain, bundle.X509Bundle(), now, claim.WithGrace(grace))
	if err != nil {
		return unproved{reason.Of(err), err.Error()}
	}
	return printClaim(cmd.OutOrStdout(), output, shownClaim{leaf: chain[0], claims: v.Claims(), verified: true, stale: v.Stale()}, now)
}

// readCertificates reads PEM (other blocks, such as the key beside an SVID, are
// skipped) or a single DER certificate.
func readCertificates(path string) ([]*x509.Certificate, error) {
	raw, err := readCapped(path, maxCertificates)
	if err != nil {
		return nil, err
	}
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
		return nil, fmt.Errorf("%s holds no certificate in PEM or DER", path)
	}
	return []*x509.Certificate{c}, nil
}

// shownClaim is a claim as it is printed.
type shownClaim struct {
	leaf     *x509.Certificate
	claims   claim.Claims
	verified bool
	stale    bool
}

func printClaim(w io.Writer, output format, s shownClaim, now time.Time) error {
	text, err := claim.Encode(s.claims)
	if err != nil {
		return err
	}
	id := ""
	if len(s.leaf.URIs) > 0 {
		id = s.leaf.URIs[0].String()
	}
	if output == asJSON {
		return terminal.JSON(w, struct {
			Verified  bool            `json:"verified"`
			Stale     bool            `json:"stale"`
			SPIFFEID  string          `json:"spiffe_id"`
			NotBefore time.Time       `json:"not_before"`
			NotAfter  time.Time       `json:"not_after"`
			Claims    json.RawMessage `json:"claims"`
		}{s.verified, s.stale, id, s.leaf.NotBefore.UTC(), s.leaf.NotAfter.UTC(), text})
	}
	z := s.claims.Zone
	verified := "no"
	switch {
	case s.verified && s.stale:
		verified = "yes, past fresh_until (grace)"
	case s.verified:
		verified = "yes"
	}
	return terminal.Rows(w, [][2]string{
		{"verified", verified},
		{"SPIFFE ID", id},
		{"zone", fmt.Sprintf("%s (tier %d, epoch %d)", z.Name, z.Tier, z.Epoch)},
		{"node", z.Node},
		{"attestation", z.AttestationID},
		{"attested", both(time.Unix(z.AttestedAt, 0), now)},
		{"fresh until", both(time.Unix(z.FreshUntil, 0), now)},
		{"not after", both(s.leaf.NotAfter, now)},
		{"key", z.Key},
		{"evidence", z.Evidence},
		{"policy", fmt.Sprintf("version %d, %s, %s", z.Policy.Version, z.Policy.Mode, z.Policy.Hash)},
		{"status", string(s.claims.Status)},
		{"verifier", s.claims.VerifierID.Build},
	})
}
