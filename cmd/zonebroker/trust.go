package main

import (
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/zonebroker/zonebroker/broker/trust"
	"github.com/zonebroker/zonebroker/cmd/internal/terminal"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

func newTrustCmd() *cobra.Command {
	return group("trust", "TPM manufacturers' CAs: get them, list them, see them expire",
		`Trust looks after the CA certificates of TPM manufacturers, which make EK
certificates genuine. Zonebroker ships a table of them (maker, subject, validity,
SHA-256 fingerprint, the maker's address), not the certificates: refresh fetches
them from their makers, import takes those that you have. What matches the table
needs no trust in how it came.

The certificates lie in the folder ek_roots of the broker's configuration, one
file each; a broker reads it when it starts. Without any, an EK certificate is
refused as ekcert.untrusted. The commands need the broker's folder, and no
running broker.`,
		`  zonebroker trust refresh
  zonebroker trust list`,
		trustRefreshCmd(), trustImportCmd(), trustListCmd(), trustExpiringCmd())
}

func dirFlag(cmd *cobra.Command) *string {
	return cmd.Flags().String("dir", "", "the broker's folder (default $ZONEBROKER_DIR)")
}

// openTrust opens the folder of roots of a broker.
func openTrust(dir string) (*trust.Folder, string, error) {
	if dir == "" {
		dir = os.Getenv("ZONEBROKER_DIR")
	}
	if dir == "" {
		return nil, "", usageError{"name the broker's folder: --dir DIR or ZONEBROKER_DIR"}
	}
	cfg, err := loadConfig(dir)
	if err != nil {
		return nil, "", err
	}
	roots := within(dir, cfg.EKRoots)
	f, err := trust.Open(roots)
	return f, roots, err
}

// trustedCert is a certificate in JSON; maker is "" where the table does not list it.
type trustedCert struct {
	Maker     string    `json:"maker"`
	Role      string    `json:"role"`
	Subject   string    `json:"subject"`
	Serial    string    `json:"serial"`
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	SHA256    string    `json:"sha256"`
	Address   string    `json:"address"`
	State     string    `json:"state"`
	Held      bool      `json:"held"`
}

func printStatus(w io.Writer, output format, list []trust.Status) error {
	out := make([]trustedCert, len(list))
	for i, s := range list {
		out[i] = trustedCert{
			s.Maker, s.Role, s.Subject, s.Serial, s.NotBefore, s.NotAfter, hex.EncodeToString(s.SHA256[:]), s.Address, s.State, s.Held,
		}
	}
	return printList(w, output, out, "MAKER ROLE STATE HELD EXPIRES FINGERPRINT SUBJECT", func(c trustedCert) []string {
		return []string{c.Maker, c.Role, c.State, yesNo(c.Held), c.NotAfter.Format(time.DateOnly), c.SHA256[:16], shortSubject(c.Subject)}
	})
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// shortSubject leaves a line of a table readable: the common name, where there is
// one that tells the certificate from others.
func shortSubject(s string) string {
	name, rest, _ := strings.Cut(strings.TrimPrefix(s, "CN="), ",")
	if name == "www.intel.com" { // Intel's CAs differ in the unit
		unit, _, _ := strings.Cut(strings.TrimPrefix(rest, "OU="), ",")
		return unit
	}
	return name
}

func trustListCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the makers' CAs and which of them the broker has",
		Long: `List shows every certificate of the table and every other one in the folder. Its
state is present, missing, expired, or unlisted for one that no row of the table
knows.`,
		Example: `  zonebroker trust list
  zonebroker trust list --maker STM --state missing -o json`,
		Args: cobra.NoArgs,
	}
	dir, output := dirFlag(cmd), listOutputFlag(cmd)
	maker := cmd.Flags().String("maker", "", "only those of this maker, for example IFX")
	state := cmd.Flags().String("state", "", "only those in this state: present, missing, expired, unlisted")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if !slices.Contains([]string{"", trust.StatePresent, trust.StateMissing, trust.StateExpired, trust.StateUnlisted}, *state) {
			return usageError{"--state: want present, missing, expired or unlisted"}
		}
		f, roots, err := openTrust(*dir)
		if err != nil {
			return err
		}
		list := slices.DeleteFunc(f.Status(time.Now()), func(s trust.Status) bool {
			return *maker != "" && s.Maker != *maker || *state != "" && s.State != *state
		})
		if err := printStatus(cmd.OutOrStdout(), *output, list); err != nil {
			return err
		}
		noteHeld(cmd.ErrOrStderr(), f, roots)
		return nil
	}
	return cmd
}

func noteHeld(w io.Writer, f *trust.Folder, roots string) {
	fmt.Fprintf(w, "%d certificates in %s, %d of them anchors; a broker reads them when it starts\n", f.Held(), roots, f.Anchors())
	if f.Held() > 0 && f.Anchors() == 0 {
		fmt.Fprintln(w, "none is self-issued, so that a broker would refuse to start: import a root too")
	}
}

func trustExpiringCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "expiring",
		Short: "List held CAs that have expired or soon will",
		Long: `Expiring lists certificates in the folder that are past their validity or will be
within a time. EK certificates below them are refused from then on as
ekcert.validity, unless a zone says requires: {tpm: {expired_certificate: allow}}.`,
		Example: `  zonebroker trust expiring
  zonebroker trust expiring --within 365d -o json`,
		Args: cobra.NoArgs,
	}
	dir, output := dirFlag(cmd), listOutputFlag(cmd)
	within := days(90 * 24 * time.Hour)
	cmd.Flags().Var(&within, "within", "how far to look ahead")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		f, _, err := openTrust(*dir)
		if err != nil {
			return err
		}
		now := time.Now()
		list := slices.DeleteFunc(f.Status(now), func(s trust.Status) bool {
			return !s.Held || s.NotAfter.After(now.Add(time.Duration(within)))
		})
		slices.SortStableFunc(list, func(a, b trust.Status) int { return a.NotAfter.Compare(b.NotAfter) })
		return printStatus(cmd.OutOrStdout(), *output, list)
	}
	return cmd
}

// days is a duration that can be written in days: "90d".
type days time.Duration

func (d *days) String() string {
	if t := time.Duration(*d); t%(24*time.Hour) == 0 {
		return strconv.Itoa(int(t/(24*time.Hour))) + "d"
	}
	return time.Duration(*d).String()
}

func (d *days) Set(s string) error {
	if n, ok := strings.CutSuffix(s, "d"); ok {
		v, err := strconv.ParseUint(n, 10, 16)
		*d = days(time.Duration(v) * 24 * time.Hour)
		return err
	}
	v, err := time.ParseDuration(s)
	if err == nil && v < 0 {
		err = fmt.Errorf("want a time ahead, as 90d or 24h")
	}
	*d = days(v)
	return err
}

func (d *days) Type() string { return "duration" }

// importedCert is what became of a certificate or file in JSON.
type importedCert struct {
	Outcome string `json:"outcome"`
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
		Short: "Take CA certificates from a file, a bundle or a folder",
		Long: `Import takes certificates in PEM (also many in one file) or DER, from a file or
from all files of a folder and below it, and says of each whether the table knows
it. Certificates that no row lists are kept only with --also-unlisted: then your
word alone makes TPMs below them genuine.`,
		Example: `  zonebroker trust import ./tpm-ca-certificates.pem
  zonebroker trust import ./lab-ca --also-unlisted -o json`,
		Args: cobra.ExactArgs(1),
	}
	dir, output := dirFlag(cmd), listOutputFlag(cmd)
	unlisted := cmd.Flags().Bool("also-unlisted", false, "keep CA certificates that the table does not list")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		f, roots, err := openTrust(*dir)
		if err != nil {
			return err
		}
		got, err := f.Import(args[0], *unlisted, nil)
		if err != nil {
			return err
		}
		if err := printImported(cmd.OutOrStdout(), *output, got); err != nil {
			return err
		}
		count := map[string]int{}
		for _, i := range got {
			count[i.Outcome]++
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "%d added, %d there already, %d twice, %d not in the table, %d no CA, %d unreadable\n",
			count[trust.ImportAdded], count[trust.ImportPresent], count[trust.ImportDuplicate], count[trust.ImportUnlisted],
			count[trust.ImportNoCA], count[trust.ImportUnreadable])
		noteHeld(cmd.ErrOrStderr(), f, roots)
		return nil
	}
	return cmd
}

func printImported(w io.Writer, output format, got []trust.Imported) error {
	out := make([]importedCert, len(got))
	for i, g := range got {
		out[i] = importedCert{Outcome: g.Outcome, Maker: g.Maker, Role: g.Role, Subject: g.Subject, File: g.File, Detail: g.Detail}
		if g.Outcome != trust.ImportUnreadable {
			out[i].SHA256 = hex.EncodeToString(g.SHA256[:])
		}
	}
	return printList(w, output, out, "OUTCOME MAKER ROLE FINGERPRINT SUBJECT FILE", func(c importedCert) []string {
		return []string{c.Outcome, c.Maker, c.Role, c.SHA256[:min(16, len(c.SHA256))], shortSubject(c.Subject) + c.Detail, c.File}
	})
}

// refreshedCert is what became of a row in JSON.
type refreshedCert struct {
	Outcome string `json:"outcome"`
	Maker   string `json:"maker"`
	Role    string `json:"role"`
	Subject string `json:"subject"`
	SHA256  string `json:"sha256"`
	Address string `json:"address"`
	Detail  string `json:"detail"`
}

func trustRefreshCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "refresh",
		Short: "Fetch the makers' CA certificates that are missing",
		Long: `Refresh asks the address of each certificate of the table that is not in the
folder, and keeps what has the fingerprint of its row. Rows without an address can
only be imported. Each answer has 20 seconds and three tries.

The proxies of HTTPS_PROXY and HTTP_PROXY are used. --mirror names a copy of the
makers' files, laid out as MIRROR/host/path (as wget -x does), for networks that
reach nothing else. It exits 1 where a certificate could not be had.`,
		Example: `  zonebroker trust refresh
  zonebroker trust refresh --maker IFX --mirror https://mirror.example.org/tpm -o json`,
		Args: cobra.NoArgs,
	}
	dir, output := dirFlag(cmd), listOutputFlag(cmd)
	var from trust.Source
	cmd.Flags().StringVar(&from.Mirror, "mirror", "", "URL of a copy of the makers' files")
	cmd.Flags().StringVar(&from.Maker, "maker", "", "only those of this maker, for example IFX")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		f, roots, err := openTrust(*dir)
		if err != nil {
			return err
		}
		ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, os.Interrupt)
		defer stop()
		notes := cmd.ErrOrStderr()
		got, err := f.Refresh(ctx, from, func(r trust.Refreshed, n, of int) {
			if r.Outcome != trust.RefreshPresent && r.Outcome != trust.RefreshNoAddress {
				fmt.Fprintf(notes, "%d/%d %s %s %s\n", n, of, r.Outcome, r.Maker, terminal.Plain(shortSubject(r.Subject)))
			}
		})
		if err != nil {
			return err
		}
		if err := printRefreshed(cmd.OutOrStdout(), *output, got); err != nil {
			return err
		}
		noteHeld(notes, f, roots)
		return refreshVerdict(notes, got)
	}
	return cmd
}

func printRefreshed(w io.Writer, output format, got []trust.Refreshed) error {
	out := make([]refreshedCert, len(got))
	for i, g := range got {
		out[i] = refreshedCert{g.Outcome, g.Maker, g.Role, g.Subject, hex.EncodeToString(g.SHA256[:]), g.Address, g.Detail}
	}
	return printList(w, output, out, "OUTCOME MAKER ROLE FINGERPRINT SUBJECT ADDRESS DETAIL", func(c refreshedCert) []string {
		return []string{c.Outcome, c.Maker, c.Role, c.SHA256[:16], shortSubject(c.Subject), c.Address, c.Detail}
	})
}

func refreshVerdict(notes io.Writer, got []trust.Refreshed) error {
	count := map[string]int{}
	for _, g := range got {
		count[g.Outcome]++
	}
	fmt.Fprintf(notes, "%d fetched, %d there already, %d failed, %d are another certificate, %d have no address\n",
		count[trust.RefreshFetched], count[trust.RefreshPresent], count[trust.RefreshFailed], count[trust.RefreshMismatch], count[trust.RefreshNoAddress])
	if n := count[trust.RefreshNoAddress]; n > 0 {
		fmt.Fprintln(notes, "what has no address is taken by zonebroker trust import, from a bundle or a machine's vendor")
	}
	if n := count[trust.RefreshFailed] + count[trust.RefreshMismatch]; n > 0 {
		return found{reason.EKCertUntrusted, fmt.Sprintf("%d certificates could not be had; EK certificates below them are refused", n)}
	}
	return nil
}
