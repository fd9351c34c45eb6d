package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/ekcert"
	"github.com/zonebroker/zonebroker/verifier/tpm2"
	"github.com/zonebroker/zonebroker/verifier/x509chain"
)

func nodeAdmitCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "admit [EK-HASH...]",
		Short: "Put the EKs of one machine into the inventory",
		Long: `Admit says that a machine is ours before it asks. An EK hash is the SHA-256 of
the EK's public key (SubjectPublicKeyInfo, DER) in hex; "zoneagent ek" prints it
on the machine. Several hashes are the EKs of one machine.

--ek-public takes the public key itself and computes the hash: DER, PEM or
TPMT_PUBLIC, also in base64, as "aws ec2 get-instance-tpm-ek-pub" gives a NitroTPM
its key in both of its formats.

--owner admits every machine whose document proves that account, project, tenant,
cluster or key; zones take them with "admit: [owner]". A machine that documents
name can also be admitted alone, by the hash that "node pending" shows.`,
		Example: `  zonebroker node admit 4f1d…e0 --machine rack7-n1 --group rack-7
  zonebroker node admit --ek-public ek.tpmt --machine i-0123456789abcdef0
  zonebroker node admit --owner gcp.project=my-project --group web`,
	}
	server, output := serverFlag(cmd), outputFlag(cmd)
	machine, groups := labelFlags(cmd)
	lab := cmd.Flags().Bool("lab", false, "software keys of a load test: they earn zones with lab: true, never another")
	owner := cmd.Flags().String("owner", "", "KIND=VALUE of an owner of machines; kinds are "+strings.Join(document.OwnerKinds(), ", "))
	keys := cmd.Flags().StringArray("ek-public", nil, "file with an EK's public key; may be given several times")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		for _, path := range *keys {
			hash, err := ekHashOf(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "%s: EK hash %s\n", path, hash)
			args = append(args, hash)
		}
		if (len(args) == 0) == (*owner == "") {
			return usageError{"name the machine: EK-HASH, or --ek-public FILE; or many with --owner KIND=VALUE"}
		}
		if *owner != "" {
			if _, err := document.ParseOwner(*owner); err != nil {
				return usageError{"--owner: " + err.Error()}
			}
		}
		c, err := newAdminClient(*server)
		if err != nil {
			return err
		}
		req := api.AdmitRequest{EKHashes: args, Owner: *owner, Machine: *machine, Groups: *groups, Lab: *lab}
		if err := req.Validate(); err != nil {
			return usageError{err.Error()}
		}
		var a api.Admission
		if err := c.post(cmd.Context(), "/v1/admissions", req, &a); err != nil {
			return err
		}
		return printAdmission(cmd, *output, a)
	}
	return cmd
}

// ekHashOf reads an EK's public key in any of the forms in which it is handed
// around: a broker knows an EK by the SHA-256 of its SPKI DER.
func ekHashOf(path string) (string, error) {
	raw, err := readCapped(path, 16<<10)
	if err != nil {
		return "", err
	}
	if block, _ := pem.Decode(raw); block != nil {
		raw = block.Bytes
	} else if text, err := base64.StdEncoding.DecodeString(string(bytes.Join(bytes.Fields(raw), nil))); err == nil && len(text) > 0 {
		raw = text
	}
	if _, spki, err := x509chain.SubjectKey(raw); err == nil {
		return strongHash(path, spki)
	}
	public := raw
	if len(raw) > 2 && int(binary.BigEndian.Uint16(raw)) == len(raw)-2 { // TPM2B_PUBLIC
		public = raw[2:]
	}
	ek, err := tpm2.ParseEK(public)
	if err != nil {
		return "", fmt.Errorf("%s: neither a public key in DER or PEM nor the public area of an EK: %w", path, err)
	}
	return strongHash(path, ek.SPKI())
}

// strongHash refuses a key that whoever factors it could enrol with.
func strongHash(path string, spki []byte) (string, error) {
	if err := ekcert.CheckKey(spki); err != nil {
		return "", fmt.Errorf("%s: no broker takes this EK: %w", path, err)
	}
	sum := sha256.Sum256(spki)
	return hex.EncodeToString(sum[:]), nil
}

func nodeRevokeCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "revoke [EK-HASH]",
		Short: "Take the admission of a machine back",
		Long: `Revoke refuses every later attestation of an EK as tpm2.ek.revoked, on all
replicas within a second, and with it all EKs of the same admission. An EK that
nobody admitted by its hash (a machine of a join token, a stolen one that never
asked) is refused as well. SVIDs that are out live to their expiry. It stands in
the history with who did it; "node admit" with the same hash ends it.

--owner takes the admission of an owner back: each of its nodes is refused as
node.not_admitted with its next attestation.`,
		Example: `  zonebroker node revoke 4f1d…e0 --note "board sold"
  zonebroker node revoke --owner gcp.project=my-project`,
		Args: cobra.MaximumNArgs(1),
	}
	server, output := serverFlag(cmd), outputFlag(cmd)
	note := cmd.Flags().String("note", "", "why, for the history")
	owner := cmd.Flags().String("owner", "", "KIND=VALUE, as it was admitted")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *owner != "" {
			o, err := document.ParseOwner(*owner)
			if err != nil {
				return usageError{"--owner: " + err.Error()}
			}
			hash := o.Hash()
			args = append(args, hex.EncodeToString(hash[:]))
		}
		if len(args) != 1 {
			return usageError{"name one admission: EK-HASH, or --owner KIND=VALUE"}
		}
		c, err := newAdminClient(*server)
		if err != nil {
			return err
		}
		req := api.RevokeRequest{Note: *note}
		if err := req.Validate(); err != nil {
			return usageError{err.Error()}
		}
		var a api.Admission
		if err := c.post(cmd.Context(), "/v1/admissions/"+url.PathEscape(args[0])+"/revoke", req, &a); err != nil {
			return err
		}
		return printAdmission(cmd, *output, a)
	}
	return cmd
}
