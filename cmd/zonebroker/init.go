package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"golang.org/x/mod/sumdb/note"

	"github.com/zonebroker/zonebroker/broker/issuer"
	"github.com/zonebroker/zonebroker/broker/ledger"
)

const logID = "main"

func newInitCmd() *cobra.Command {
	var o initOptions
	cmd := &cobra.Command{
		Use:   "init DIR {--trust-domain NAME | --replica-of DIR}",
		Short: "Make the folder of a broker: keys, configuration, places for zones and roots",
		Long: `Init makes the folder that "zonebroker serve" runs from: the cluster key, the
log's key and the trust anchor (files of mode 0600 under secrets/), the
configuration, and empty folders for zone documents and manufacturers' CAs.

Keys are made here and never by serve: state that grants trust is not created by
accident.

--replica-of makes the folder of one more broker of the same trust domain and
database: a copy of keys, zones and roots without what belongs to the other
broker alone. Up to three brokers write one log; above that each takes its own
with --log-id, so that none waits for the others. Every broker needs the public
key of every log: copy DIR/log.pub as log-NAME.pub into the other folders.`,
		Example: `  zonebroker init /var/lib/zonebroker --trust-domain example.org
  zonebroker init ./lab --trust-domain lab.test --listen 127.0.0.1:0
  zonebroker init ./replica --replica-of /etc/zonebroker --log-id second`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd, args[0]) },
	}
	cmd.Flags().StringVar(&o.trustDomain, "trust-domain", "", "SPIFFE trust domain, for example example.org; cannot be changed later")
	cmd.Flags().StringVar(&o.listen, "listen", "", "host:port for agents; port 0 takes a free one (default 127.0.0.1:8443, or that of the other broker)")
	cmd.Flags().StringVar(&o.replicaOf, "replica-of", "", "folder of a broker whose trust domain and database this one shares")
	cmd.Flags().StringVar(&o.logID, "log-id", "", "name of a log of its own (default: that of the other broker)")
	cmd.MarkFlagsOneRequired("trust-domain", "replica-of")
	cmd.MarkFlagsMutuallyExclusive("trust-domain", "replica-of")
	_ = cmd.MarkFlagDirname("replica-of")
	return cmd
}

type initOptions struct{ trustDomain, listen, replicaOf, logID string }

func (o initOptions) run(cmd *cobra.Command, dir string) error {
	if o.replicaOf != "" {
		return o.replica(cmd, dir)
	}
	if o.logID != "" {
		return fmt.Errorf("--log-id goes with --replica-of: the first log of a trust domain is %s", logID)
	}
	if o.listen == "" {
		o.listen = "127.0.0.1:8443"
	}
	pin, err := initDir(dir, o.trustDomain, o.listen, time.Now())
	if err != nil {
		return err
	}
	say := cmd.ErrOrStderr()
	fmt.Fprintf(cmd.OutOrStdout(), "%s\n", pin)
	fmt.Fprintf(say, "made %s for trust domain %s\n", dir, o.trustDomain)
	fmt.Fprintf(say, "agents trust this broker by: --pin %s\n", pin)
	fmt.Fprintf(say, "next: put zone documents into %s, get TPM makers' CAs with: zonebroker trust refresh --dir %s, then: zonebroker serve --dir %s\n",
		filepath.Join(dir, policyDir), dir, dir)
	return nil
}

func (o initOptions) replica(cmd *cobra.Command, dir string) error {
	pin, err := initReplica(dir, o.replicaOf, o.logID, o.listen)
	if err != nil {
		return err
	}
	say := cmd.ErrOrStderr()
	fmt.Fprintf(cmd.OutOrStdout(), "%s\n", pin)
	fmt.Fprintf(say, "made %s, a replica of %s\n", dir, o.replicaOf)
	if o.logID != "" {
		fmt.Fprintf(say, "next: copy %s to %s in the folder of every other broker and start those again\n",
			filepath.Join(dir, logPublic), otherLogPrefix+o.logID+otherLogSuffix)
	}
	fmt.Fprintf(say, "then: zonebroker serve --dir %s\n", dir)
	return nil
}

// initDir makes the folder and returns the pin of its trust anchor. It refuses a
// folder that has a configuration: making keys anew would orphan every node.
func initDir(dir, trustDomain, listen string, now time.Time) (string, error) {
	td, err := spiffeid.TrustDomainFromString(trustDomain)
	if err != nil {
		return "", fmt.Errorf("--trust-domain: %w", err)
	}
	switch _, err := os.Lstat(filepath.Join(dir, configFile)); {
	case err == nil:
		return "", fmt.Errorf("%s exists already; a broker's keys are made once", filepath.Join(dir, configFile))
	case !errors.Is(err, fs.ErrNotExist):
		return "", err
	}
	// The folder itself can be passed through, not listed: under root a private
	// Postgres inside it runs as another user.
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return "", err
	}
	for _, d := range []string{secretsDir, policyDir, rootsDir} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			return "", err
		}
	}
	anchor, err := issuer.NewAnchor(now, rand.Reader)
	if err != nil {
		return "", fmt.Errorf("make trust anchor: %w", err)
	}
	files, err := newKeyFiles(td.Name(), anchor)
	if err != nil {
		return "", err
	}
	files = append(files, newFile{configFile, []byte(configText(td.Name(), listen)), 0o600})
	for _, f := range files {
		if err := f.write(dir); err != nil {
			return "", err
		}
	}
	return anchor.Pin(), nil
}

func newKeyFiles(trustDomain string, anchor *issuer.Anchor) ([]newFile, error) {
	cluster, err := newClusterKey()
	if err != nil {
		return nil, fmt.Errorf("make cluster key: %w", err)
	}
	skey, vkey, err := note.GenerateKey(rand.Reader, ledger.Origin(trustDomain, logID))
	if err != nil {
		return nil, fmt.Errorf("make log key: %w", err)
	}
	anchorFile, err := anchor.PEM()
	if err != nil {
		return nil, fmt.Errorf("encode trust anchor: %w", err)
	}
	return []newFile{
		{filepath.Join(secretsDir, clusterKey), cluster, 0o600},
		{filepath.Join(secretsDir, logKeyFile), []byte(skey + "\n"), 0o600},
		{filepath.Join(secretsDir, anchorKey), anchorFile, 0o600},
		{anchorCert, anchor.CertificatePEM(), 0o644},
		{logPublic, []byte(vkey + "\n"), 0o644},
	}, nil
}

func configText(trustDomain, listen string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Configuration of a Zonebroker. Paths are relative to this folder.\n")
	fmt.Fprintf(&b, "trust_domain: %s\nlisten: %q\ndatabase: embedded:%s\npolicy: %s\nek_roots: %s\n", trustDomain, listen, embeddedName, policyDir, rootsDir)
	return b.String()
}

// newFile is a file that must not exist yet.
type newFile struct {
	name string
	data []byte
	mode fs.FileMode
}

func (f newFile) write(dir string) (err error) {
	path := filepath.Join(dir, f.name)
	w, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, f.mode)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	if _, err := io.Copy(w, strings.NewReader(string(f.data))); err != nil {
		return err
	}
	return w.Sync()
}
