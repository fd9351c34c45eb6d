package main

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"

	"github.com/zonebroker/zonebroker/broker/claim"
	"github.com/zonebroker/zonebroker/cmd/internal/terminal"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// maxBundle bounds a file that may come from anybody.
const maxBundle = 4 << 20

func newClaimCmd() *cobra.Command {
	return group("claim", "The zone claim inside an SVID: inspect, verify",
		"Claim reads the zone claim of an X.509-SVID or a JWT-SVID. It needs no broker.",
		"  zonebroker claim verify svid.pem --bundle bundle.json", claimInspectCmd(), claimVerifyCmd())
}

func claimInspectCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "inspect FILE",
		Short:   "Print what an SVID claims, without verifying anything",
		Long:    "Inspect prints the zone claim of the first certificate in FILE (PEM or DER), or of\nthe token in it (JWT-SVID); - is standard input. It verifies nothing: anybody can\nwrite such a file.",
		Example: "  zonebroker claim inspect svid.pem -o json\n  zonebroker claim inspect token.jwt",
		Args:    cobra.ExactArgs(1),
	}
	output := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		svid, err := readSVID(cmd.InOrStdin(), args[0])
		if err != nil {
			return err
		}
		shown, err := svid.inspect()
		if err != nil {
			return fmt.Errorf("%s: %w", args[0], err)
		}
		fmt.Fprintln(cmd.ErrOrStderr(), "not verified: zonebroker claim verify FILE --bundle BUNDLE does")
		return printClaim(cmd.OutOrStdout(), *output, shown, time.Now())
	}
	return cmd
}

func claimVerifyCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "verify FILE --bundle BUNDLE [--audience AUDIENCE]",
		Short: "Verify an SVID and its zone claim as a relying party does",
		Long: `Verify checks the chain in FILE (PEM or DER, leaf first) against a SPIFFE bundle,
and that the zone claim belongs to the SPIFFE ID and is fresh. It exits 5 when
something does not hold. --at answers for another time, --grace says whether a
claim past fresh_until still counts: never, outage_only or always.

A token (JWT-SVID) in FILE is verified for the one --audience that it is shown
to, and has no grace. FILE - is standard input.`,
		Example: `  zonebroker claim verify svid.pem --bundle bundle.json
  zonebroker claim verify token.jwt --bundle bundle.json --audience payments-api
  zonebroker claim verify svid.pem --bundle bundle.json --at 2026-11-20T12:00:00Z --grace always`,
		Args: cobra.ExactArgs(1),
	}
	output := outputFlag(cmd)
	f := cmd.Flags()
	bundle := f.String("bundle", "", "SPIFFE bundle document of the trust domain")
	at := f.String("at", "", "time to verify at, RFC 3339 (default: now)")
	grace := f.String("grace", string(claim.GraceNever), "never, outage_only or always")
	audience := f.String("audience", "", "audience that a token must be for")
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
		return verifyClaim(cmd, *output, args[0], *bundle, expected{*audience, claim.Grace(*grace), now})
	}
	return cmd
}

// expected is what a relying party knows of itself.
type expected struct {
	audience string // of a token
	grace    claim.Grace
	now      time.Time
}

func verifyClaim(cmd *cobra.Command, output format, file, bundleFile string, want expected) error {
	svid, err := readSVID(cmd.InOrStdin(), file)
	if err != nil {
		return err
	}
	td, err := svid.trustDomain()
	if err != nil {
		return unproved{reason.AuthInvalid, file + ": " + err.Error()}
	}
	raw, err := readCapped(bundleFile, maxBundle)
	if err != nil {
		return err
	}
	bundle, err := spiffebundle.Parse(td, raw)
	if err != nil {
		return fmt.Errorf("%s is not a SPIFFE bundle: %w", bundleFile, err)
	}
	if svid.token != "" && want.audience == "" {
		return usageError{"--audience is missing: a token counts only for the audience that it is shown to"}
	}
	shown, err := svid.verify(bundle, want)
	if err != nil {
		return unproved{reason.Of(err), err.Error()}
	}
	return printClaim(cmd.OutOrStdout(), output, shown, want.now)
}

func printClaim(w io.Writer, output format, s shownClaim, now time.Time) error {
	text, err := claim.Encode(s.claims)
	if err != nil {
		return err
	}
	if output == asJSON {
		return terminal.JSON(w, struct {
			Verified  bool            `json:"verified"`
			Stale     bool            `json:"stale"`
			SPIFFEID  string          `json:"spiffe_id"`
			NotBefore time.Time       `json:"not_before"`
			NotAfter  time.Time       `json:"not_after"`
			Token     *shownToken     `json:"token,omitempty"`
			Claims    json.RawMessage `json:"claims"`
		}{s.verified, s.stale, s.id, s.notBefore.UTC(), s.notAfter.UTC(), s.token, text})
	}
	z := s.claims.Zone
	verified := "no"
	switch {
	case s.verified && s.stale:
		verified = "yes, past fresh_until (grace)"
	case s.verified:
		verified = "yes"
	}
	rows := [][2]string{
		{"verified", verified},
		{"SPIFFE ID", s.id},
		{"zone", fmt.Sprintf("%s (tier %d, epoch %d)", z.Name, z.Tier, z.Epoch)},
		{"node", z.Node},
		{"attestation", z.AttestationID},
		{"attested", both(time.Unix(z.AttestedAt, 0), now)},
		{"fresh until", both(time.Unix(z.FreshUntil, 0), now)},
		{"not after", both(s.notAfter, now)},
		{"key", z.Key},
		{"evidence", z.Evidence},
		{"policy", fmt.Sprintf("version %d, %s, %s", z.Policy.Version, z.Policy.Mode, z.Policy.Hash)},
		{"status", string(s.claims.Status)},
		{"verifier", s.claims.VerifierID.Build},
	}
	if t := s.token; t != nil {
		rows = append(rows, [2]string{"audience", t.Audience}, [2]string{"issuer", t.Issuer}, [2]string{"record", t.ID}, [2]string{"bound to", t.BoundTo})
	}
	return terminal.Rows(w, rows)
}
