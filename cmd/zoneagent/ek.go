package main

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	tpm2collect "github.com/zonebroker/zonebroker/broker/agent/collect/tpm2"
	"github.com/zonebroker/zonebroker/cmd/internal/terminal"
)

func ekCommand() *cobra.Command {
	var (
		device, ek, output string
		timeout            time.Duration
	)
	cmd := &cobra.Command{
		Use:   "ek",
		Short: "Print the hash of this host's endorsement key, by which an operator admits it",
		Long: `ek prints the SHA-256 of the public endorsement key of this host's TPM, which
names the machine for its whole life, and what its certificate says. Nothing is
sent anywhere. The certificate is shown as it lies in the TPM; whether a maker
stands behind it is for the broker to judge.`,
		Example: `  zoneagent ek
  zoneagent ek --tpm swtpm:/run/tpm.sock -o json`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkOutput(output); err != nil {
				return err
			}
			if err := checkEK(ek); err != nil {
				return err
			}
			ctx, cancel := context.WithTimeoutCause(cmd.Context(), timeout, fmt.Errorf("not done within %s", timeout))
			defer cancel()
			key, err := readEK(ctx, device, ek)
			if err != nil {
				return err
			}
			return printEK(cmd, output, key)
		},
	}
	registerTPM(cmd, &device, &ek)
	registerOutput(cmd, &output)
	cmd.Flags().DurationVar(&timeout, "timeout", 2*time.Minute, "give up after this time")
	return cmd
}

func readEK(ctx context.Context, device, kind string) (tpm2collect.EK, error) {
	tpm, err := tpm2collect.Open(ctx, tpm2collect.Config{Device: device, EK: tpm2collect.Kind(kind)})
	if err != nil {
		return tpm2collect.EK{}, err
	}
	defer tpm.Close()
	return tpm.EK(ctx)
}

// endorsement is the JSON of an EK. Certificate is null where the TPM has none.
type endorsement struct {
	Kind        string         `json:"kind"`
	Hash        string         `json:"hash"` // hex SHA-256 of the SPKI DER
	Certificate *ekCertificate `json:"certificate"`
}

type ekCertificate struct {
	Bytes     int    `json:"bytes"`
	SHA256    string `json:"sha256"`
	Parsed    bool   `json:"parsed"` // false: not plain DER; the broker may still read it
	Issuer    string `json:"issuer"`
	Serial    string `json:"serial"`
	NotBefore string `json:"not_before"`
	NotAfter  string `json:"not_after"`
}

func endorsementOf(key tpm2collect.EK) endorsement {
	e := endorsement{Kind: string(key.Kind), Hash: hex.EncodeToString(key.Hash[:])}
	if len(key.Certificate) == 0 {
		return e
	}
	der := key.Certificate
	// Some makers fill the rest of the index; the DER knows its own length.
	var whole asn1.RawValue
	if rest, err := asn1.Unmarshal(der, &whole); err == nil {
		der = der[:len(der)-len(rest)]
	}
	sum := sha256.Sum256(der)
	e.Certificate = &ekCertificate{Bytes: len(der), SHA256: hex.EncodeToString(sum[:])}
	if c, err := x509.ParseCertificate(der); err == nil {
		e.Certificate.Parsed = true
		e.Certificate.Issuer, e.Certificate.Serial = c.Issuer.String(), c.SerialNumber.Text(16)
		e.Certificate.NotBefore, e.Certificate.NotAfter = c.NotBefore.UTC().Format(time.RFC3339), c.NotAfter.UTC().Format(time.RFC3339)
	}
	return e
}

func printEK(cmd *cobra.Command, output string, key tpm2collect.EK) error {
	e := endorsementOf(key)
	if output == asJSON {
		return terminal.JSON(cmd.OutOrStdout(), e)
	}
	rows := [][2]string{{"ek hash", e.Hash}, {"kind", e.Kind}}
	switch c := e.Certificate; {
	case c == nil:
		rows = append(rows, [2]string{"certificate", "none in this TPM"})
	case !c.Parsed:
		rows = append(rows, [2]string{"certificate", fmt.Sprintf("%d bytes that are not plain DER, sha256 %s", c.Bytes, c.SHA256)})
	default:
		rows = append(rows, [2]string{"certificate", "sha256 " + c.SHA256}, [2]string{"  issuer", c.Issuer}, [2]string{"  serial", c.Serial}, [2]string{"  valid", c.NotBefore + " to " + c.NotAfter})
	}
	if err := terminal.Rows(cmd.OutOrStdout(), rows); err != nil {
		return err
	}
	_, err := fmt.Fprintf(cmd.ErrOrStderr(), "an operator admits this machine with: zonebroker node admit %s\n", e.Hash)
	return err
}
