package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/zonebroker/zonebroker/broker/trust"
	"github.com/zonebroker/zonebroker/broker/trust/platform"
)

// kindTPM stands, among the kinds of trust objects, for TPM manufacturers' CAs.
const kindTPM = "tpm"

func newTrustCmd() *cobra.Command {
	return group("trust", "What a broker believes: TPM makers and platforms, fetched, listed, watched",
		`Trust looks after what evidence is verified with: the CA certificates of TPM
manufacturers (kind tpm), which make EK certificates genuine, and the roots,
region certificates, token keys, revocation lists and collateral of clouds and
confidential machines.

Zonebroker ships tables of them (subject, validity, SHA-256 fingerprint, the
publisher's address), not the objects: refresh fetches them, import takes those
that you have. What matches a fingerprint needs no trust in how it came. Lists,
collateral and VCEKs are believed by signatures under roots in the folder; token
keys by TLS of a fixed address.

Makers' CAs lie in the folder ek_roots of the broker's configuration, platforms'
objects in trust, KIND/NAME. A running broker takes changes within a minute, and
every record names the version that it was judged with. The commands need the
broker's folder, and no running broker.`,
		`  zonebroker trust refresh
  zonebroker trust list`,
		trustRefreshCmd(), trustImportCmd(), trustListCmd(), trustExpiringCmd())
}

func dirFlag(cmd *cobra.Command) *string {
	return cmd.Flags().String("dir", "", "the broker's folder (default $ZONEBROKER_DIR)")
}

func kindFlag(cmd *cobra.Command, to *string, usage string) {
	cmd.Flags().StringVar(to, "kind", "", usage)
	_ = cmd.RegisterFlagCompletionFunc("kind", cobra.FixedCompletions(trustKinds(), cobra.ShellCompDirectiveNoFileComp))
}

// trustKinds are all that --kind takes.
func trustKinds() []string { return append([]string{kindTPM}, platform.Kinds()...) }

// trusted is what a broker believes, as it lies in its folders.
type trusted struct {
	makers    *trust.Folder
	platforms *platform.Folder

	roots, dir string // the two folders
}

func checkKind(kind string) error {
	if kind != "" && !slices.Contains(trustKinds(), kind) {
		return usageError{"--kind: want one of " + strings.Join(trustKinds(), ", ")}
	}
	return nil
}

// openTrust opens what a broker believes.
func openTrust(dir string) (trusted, error) {
	if dir == "" {
		dir = os.Getenv("ZONEBROKER_DIR")
	}
	if dir == "" {
		return trusted{}, usageError{"name the broker's folder: --dir DIR or ZONEBROKER_DIR"}
	}
	cfg, err := loadConfig(dir)
	if err != nil {
		return trusted{}, err
	}
	t := trusted{roots: within(dir, cfg.EKRoots), dir: within(dir, cfg.Trust)}
	if t.makers, err = trust.Open(t.roots); err != nil {
		return trusted{}, err
	}
	t.platforms, err = platform.Open(t.dir)
	return t, err
}

func (t trusted) note(w io.Writer) {
	fmt.Fprintf(w, "%d certificates in %s, %d of them anchors; %d objects of platforms in %s; a broker takes changes within a minute\n",
		t.makers.Held(), t.roots, t.makers.Anchors(), t.platforms.Held(), t.dir)
	if t.makers.Held() > 0 && t.makers.Anchors() == 0 {
		fmt.Fprintln(w, "no maker's certificate is self-issued, so that a broker would refuse to start: import a root too")
	}
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

func dateOf(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Format(time.DateOnly)
}
