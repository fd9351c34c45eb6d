package main

import (
	"cmp"
	"encoding/hex"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/zonebroker/zonebroker/broker/trust"
)

// trustItem is a certificate of a TPM maker, or an object of a platform, in JSON.
type trustItem struct {
	Kind      string    `json:"kind"`
	Name      string    `json:"name"`
	Maker     string    `json:"maker"`
	Role      string    `json:"role"`
	Subject   string    `json:"subject"`
	Serial    string    `json:"serial"`
	NotBefore time.Time `json:"not_before,omitzero"`
	NotAfter  time.Time `json:"not_after,omitzero"`
	SHA256    string    `json:"sha256"`
	Address   string    `json:"address"`
	State     string    `json:"state"`
	Held      bool      `json:"held"`
	Fetched   time.Time `json:"fetched,omitzero"`
	Failure   string    `json:"failure"`
}

// items lists both, makers first.
func (t trusted) items(now time.Time) []trustItem {
	var out []trustItem
	for _, s := range t.makers.Status(now) {
		out = append(out, trustItem{
			Kind: kindTPM, Name: s.Maker, Maker: s.Maker, Role: s.Role, Subject: s.Subject, Serial: s.Serial,
			NotBefore: s.NotBefore, NotAfter: s.NotAfter, SHA256: hex.EncodeToString(s.SHA256[:]), Address: s.Address, State: s.State, Held: s.Held,
		})
	}
	for _, s := range t.platforms.Status(now) {
		out = append(out, trustItem{
			Kind: s.Kind, Name: s.Name, Subject: s.Subject, NotBefore: s.Begins, NotAfter: s.Ends, SHA256: s.SHA256,
			Address: s.Address, State: s.State, Held: s.Held, Fetched: s.Fetched, Failure: s.LastFailure,
		})
	}
	return out
}

func printItems(w io.Writer, output format, list []trustItem) error {
	return printList(w, output, list, "KIND NAME STATE HELD EXPIRES FINGERPRINT SUBJECT", func(c trustItem) []string {
		return []string{c.Kind, c.Name, c.State, yesNo(c.Held), dateOf(c.NotAfter), cmp.Or(c.SHA256[:min(16, len(c.SHA256))], "-"), shortSubject(c.Subject)}
	})
}

func trustListCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List makers' CAs and platforms' objects, and which of them the broker has",
		Long: `List shows every row of the tables and whatever else is in the folders. The state
is present, missing, expired, or unlisted for one that no row of its table knows.`,
		Example: `  zonebroker trust list
  zonebroker trust list --maker STM --state missing -o json
  zonebroker trust list --kind aws.ec2`,
		Args: cobra.NoArgs,
	}
	dir, output := dirFlag(cmd), listOutputFlag(cmd)
	var kind string
	kindFlag(cmd, &kind, "only this kind, for example tpm or aws.ec2")
	maker := cmd.Flags().String("maker", "", "only CAs of this TPM maker, for example IFX")
	state := cmd.Flags().String("state", "", "only those in this state: present, missing, expired, unlisted")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if !slices.Contains([]string{"", trust.StatePresent, trust.StateMissing, trust.StateExpired, trust.StateUnlisted}, *state) {
			return usageError{"--state: want present, missing, expired or unlisted"}
		}
		if err := checkKind(kind); err != nil {
			return err
		}
		t, err := openTrust(*dir)
		if err != nil {
			return err
		}
		list := slices.DeleteFunc(t.items(time.Now()), func(c trustItem) bool {
			return kind != "" && c.Kind != kind || *maker != "" && c.Maker != *maker || *state != "" && c.State != *state
		})
		if err := printItems(cmd.OutOrStdout(), *output, list); err != nil {
			return err
		}
		t.note(cmd.ErrOrStderr())
		return nil
	}
	return cmd
}

func trustExpiringCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "expiring",
		Short: "List what is held and has expired or soon will",
		Long: `Expiring lists what is in the folders and past its validity, or will be within a
time. EK certificates below such a CA are refused from then on as ekcert.validity,
unless a zone says requires: {tpm: {expired_certificate: allow}}. Documents that
rest on such an object are refused too. Fetched token keys count for a week after
they were last refreshed.`,
		Example: `  zonebroker trust expiring
  zonebroker trust expiring --within 365d -o json
  zonebroker trust expiring --kind intel.collateral --within 7d`,
		Args: cobra.NoArgs,
	}
	dir, output := dirFlag(cmd), listOutputFlag(cmd)
	var kind string
	kindFlag(cmd, &kind, "only this kind, for example tpm or intel.collateral")
	within := days(90 * 24 * time.Hour)
	cmd.Flags().Var(&within, "within", "how far to look ahead")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := checkKind(kind); err != nil {
			return err
		}
		t, err := openTrust(*dir)
		if err != nil {
			return err
		}
		now := time.Now()
		list := slices.DeleteFunc(t.items(now), func(c trustItem) bool {
			return kind != "" && c.Kind != kind || !c.Held || c.NotAfter.IsZero() || c.NotAfter.After(now.Add(time.Duration(within)))
		})
		slices.SortStableFunc(list, func(a, b trustItem) int { return a.NotAfter.Compare(b.NotAfter) })
		return printItems(cmd.OutOrStdout(), *output, list)
	}
	return cmd
}
