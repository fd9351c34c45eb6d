package main

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/zonebroker/zonebroker/broker/trust"
	"github.com/zonebroker/zonebroker/broker/trust/platform"
)

// importedItem is what became of a certificate, an object or a file in JSON.
type importedItem struct {
	Outcome string `json:"outcome"`
	Kind    string `json:"kind"`
	Name    string `json:"name"`
	Maker   string `json:"maker"`
	Role    string `json:"role"`
	Subject string `json:"subject"`
	SHA256  string `json:"sha256"`
	File    string `json:"file"`
	Detail  string `json:"detail"`
}

func trustImportCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "import DIR|FILE",
		Short: "Take certificates, keys, lists and collateral from a file or a folder",
		Long: `Import takes a file, or all files of a folder and below it, and says of each what
it is. Recognised are certificates of both tables, in PEM (also many in one file),
DER, or a JSON map of names to PEM; AMD's revocation lists and VCEKs; Intel's
collateral; keys of an issuer ({"format", "issuer", "jwks"}).

What could be several things, or is in no table, needs --kind, and --name where
the file's is not the right one. Certificates of kinds with fingerprints that no
row lists are kept only with --also-unlisted: then your word alone makes what is
below them genuine. Lists, VCEKs and collateral need AMD's and Intel's
certificates in the folder, which have to have signed them. With --address keys
are fetched again from there. It exits 1 where nothing was kept.`,
		Example: `  zonebroker trust import ./tpm-ca-certificates.pem
  zonebroker trust import ./lab-ca --also-unlisted -o json
  zonebroker trust import ./cluster.json --kind jwks --name blue --address https://k8s.example.org/openid/v1/jwks`,
		Args: cobra.ExactArgs(1),
	}
	dir, output := dirFlag(cmd), listOutputFlag(cmd)
	var how platform.Importing
	f := cmd.Flags()
	kindFlag(cmd, &how.Kind, "what it is, for example x509pop.ca, or tpm for a TPM maker's CA (default: recognised)")
	f.StringVar(&how.Name, "name", "", "name of the object (default: that of the table, the content or the file)")
	f.StringVar(&how.Address, "address", "", "https URL where keys are fetched again from")
	f.BoolVar(&how.AlsoUnlisted, "also-unlisted", false, "keep certificates that the tables do not list")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := checkKind(how.Kind); err != nil {
			return err
		}
		t, err := openTrust(*dir)
		if err != nil {
			return err
		}
		how.Now = time.Now()
		got, err := t.take(args[0], how)
		if err != nil {
			return err
		}
		if err := printImported(cmd.OutOrStdout(), *output, got); err != nil {
			return err
		}
		t.note(cmd.ErrOrStderr())
		return importVerdict(cmd.ErrOrStderr(), how, got)
	}
	return cmd
}

// importVerdict counts what became of everything, says what would keep the rest,
// and fails where nothing of it is held now.
func importVerdict(notes io.Writer, how platform.Importing, got []importedItem) error {
	count := map[string]int{}
	for _, i := range got {
		count[i.Outcome]++
	}
	fmt.Fprintf(notes, "%d added, %d there already, %d twice, %d not in the table, %d no CA, %d refused, %d unreadable\n",
		count[trust.ImportAdded], count[trust.ImportPresent], count[trust.ImportDuplicate], count[trust.ImportUnlisted],
		count[trust.ImportNoCA], count[platform.ImportRefused], count[trust.ImportUnreadable])
	switch {
	case count[trust.ImportUnlisted] > 0 && how.Kind == "":
		fmt.Fprintln(notes, "what is not in the table is kept with --also-unlisted, where your word is to make it genuine; of a platform say which with --kind, too")
	case count[trust.ImportUnlisted] > 0:
		fmt.Fprintln(notes, "what is not in the table is kept with --also-unlisted, where your word is to make it genuine")
	}
	if count[trust.ImportNoCA] > 0 {
		fmt.Fprintln(notes, "what is no CA vouches for no TPM; if it is a certificate of a platform, say which with --kind, for example aws.ec2")
	}
	if count[trust.ImportAdded]+count[trust.ImportPresent] == 0 {
		return found{why: "nothing was kept"}
	}
	return nil
}

// take imports into both folders. What is an object of a platform makes no TPM
// genuine, and of a file that is one, nobody wants to hear that it is no CA.
func (t trusted) take(path string, how platform.Importing) ([]importedItem, error) {
	var out []importedItem
	elsewhere, files := map[[32]byte]bool{}, map[string]bool{}
	if how.Kind != kindTPM {
		unlisted := how.AlsoUnlisted
		if how.Kind == "" {
			how.AlsoUnlisted = false // only a kind says what an unknown certificate is for
		}
		got, err := t.platforms.Import(path, how)
		if err != nil {
			return nil, err
		}
		how.AlsoUnlisted = unlisted
		for _, g := range got {
			out = append(out, importedItem{Outcome: g.Outcome, Kind: g.Kind, Name: g.Name, Subject: g.Subject, SHA256: g.SHA256, File: g.File, Detail: g.Detail})
			files[g.File] = true
			for _, p := range g.Prints {
				elsewhere[p] = true
			}
		}
	}
	if how.Kind != "" && how.Kind != kindTPM {
		return out, nil
	}
	makers, err := t.makers.Import(path, how.AlsoUnlisted, elsewhere)
	for _, g := range makers {
		if elsewhere[g.SHA256] && (g.Outcome == trust.ImportUnlisted || g.Outcome == trust.ImportNoCA) || files[g.File] && g.Outcome == trust.ImportUnreadable {
			continue
		}
		i := importedItem{Outcome: g.Outcome, Kind: kindTPM, Name: g.Maker, Maker: g.Maker, Role: g.Role, Subject: g.Subject, File: g.File, Detail: g.Detail}
		if g.Outcome != trust.ImportUnreadable {
			i.SHA256 = hex.EncodeToString(g.SHA256[:])
		}
		out = append(out, i)
	}
	return out, err
}

func printImported(w io.Writer, output format, got []importedItem) error {
	return printList(w, output, got, "OUTCOME KIND NAME FINGERPRINT SUBJECT FILE", func(c importedItem) []string {
		return []string{c.Outcome, c.Kind, c.Name, cmp.Or(c.SHA256[:min(16, len(c.SHA256))], "-"), cmp.Or(c.Detail, shortSubject(c.Subject)), c.File}
	})
}
