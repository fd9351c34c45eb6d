package main

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"go.yaml.in/yaml/v3"

	"github.com/zonebroker/zonebroker/broker/claim"
)

// Names inside a broker's folder. An attacker who can write the folder owns the
// broker; one who can read secrets can pose as every replica.
const (
	configFile   = "zonebroker.yaml"
	secretsDir   = "secrets"
	clusterKey   = "cluster.key" // 32 random bytes, hex; opens tokens, authenticates granting rows
	logKeyFile   = "log.key"     // signs checkpoints
	anchorKey    = "anchor.key"  // signs the replicas' TLS certificates
	anchorCert   = "anchor.pem"
	logPublic    = "log.pub"
	policyDir    = "zones"
	rootsDir     = "roots"
	crlsDir      = "crls"
	trustDir     = "trust"
	logAnchor    = "log-anchor.note" // last signed checkpoint, outside the database
	envFile      = "env"
	runDir       = "run" // 0700: the admin socket
	adminSocket  = "admin.sock"
	embeddedName = "pg"
)

const maxConfig = 64 << 10

// config is zonebroker.yaml. Paths are relative to the broker's folder.
type config struct {
	// TrustDomain is the SPIFFE trust domain, for example example.org. It is part
	// of every node's name and cannot be changed later.
	TrustDomain string `yaml:"trust_domain"`
	// LogID names the Merkle log inside the trust domain that this broker writes. Up
	// to three brokers share one; above that each takes its own, whose key its
	// folder holds (zonebroker init --replica-of DIR --log-id NAME).
	LogID string `yaml:"log_id"`
	// Listen is host:port for agents. Port 0 takes a free one.
	Listen string `yaml:"listen"`
	// Database is embedded:DIR or postgres://… . Trusted for availability only:
	// who can write it can take rights away and read evidence, not grant any.
	Database string `yaml:"database"`
	// DatabaseOwner is the connection of the role that migrates and makes
	// partitions; empty takes Database.
	DatabaseOwner string `yaml:"database_owner"`
	// DatabasePooler says that Database leads to a pooler in transaction mode, such
	// as pgbouncer. Its role must then be zb_writer, and DatabaseOwner must lead to
	// the server itself.
	DatabasePooler bool `yaml:"database_pooler"`
	// DatabaseReader is postgres://… of the role that answers questions about the
	// history, zb_reader or a member of it; it may lead to a standby. Empty takes
	// Database. Who writes there decides what auditors see.
	DatabaseReader string `yaml:"database_reader"`
	// DatabaseReaderPooler says of DatabaseReader what DatabasePooler says of
	// Database; the login is zb_reader itself then.
	DatabaseReaderPooler bool `yaml:"database_reader_pooler"`
	// Replica names this broker among its replicas; empty takes the host name.
	Replica string `yaml:"replica"`
	// Policy is the folder of zone documents. Trusted: they decide.
	Policy string `yaml:"policy"`
	// EKRoots is the folder of TPM manufacturers' CA certificates (PEM). Trusted:
	// a CA in it makes TPMs genuine.
	EKRoots string `yaml:"ek_roots"`
	// EKCRLs is the folder of revocation lists (*.crl, *.pem) of those CAs. Trusted:
	// who can write it can hide that a TPM was revoked. An issuer without a list
	// revokes nothing; one whose list is past its nextUpdate has its EKs refused.
	EKCRLs string `yaml:"ek_crls"`
	// Trust is the folder of trust in platforms, KIND/NAME (zonebroker trust list).
	// Trusted: who can write it can make any cloud document genuine.
	Trust string `yaml:"trust"`
	// TrustRefresh is how often the broker itself looks whether keys, lists and
	// collateral that the folder holds are due, by default 1h; 0 leaves that to
	// zonebroker trust refresh. Its requests go to addresses of the table and of an
	// operator only.
	TrustRefresh duration `yaml:"trust_refresh"`
	// ExtraVendors are manufacturer ids accepted beside the TCG registry, for a
	// lab's own CA.
	ExtraVendors []string `yaml:"extra_vendors"`
	// CALifetime is how long this replica's CA lives, at most and by default 24h.
	CALifetime duration `yaml:"ca_lifetime"`
	// OIDCIssuer is the iss of JWT-SVIDs and where readers of OIDC look for the
	// keys: an https URL that leads to the listeners of all replicas. Empty takes
	// https:// and the address of this listener, which is good for one replica.
	OIDCIssuer string `yaml:"oidc_issuer"`
	// Enrich says which platforms are asked about documents while they are judged;
	// none by default.
	Enrich enrichConfig `yaml:"enrich"`
	// Limits bound what strangers and nodes can make the broker do.
	Limits limits `yaml:"limits"`
}

// duration is a time.Duration written as "24h".
type duration time.Duration

func (d *duration) UnmarshalYAML(n *yaml.Node) error {
	v, err := time.ParseDuration(n.Value)
	if err != nil {
		return fmt.Errorf("line %d: a duration is written like 24h: %w", n.Line, err)
	}
	*d = duration(v)
	return nil
}

// loadConfig reads DIR/zonebroker.yaml strictly: an unknown or repeated key, or
// a second document, is an error that names the line.
func loadConfig(dir string) (config, error) {
	path := filepath.Join(dir, configFile)
	raw, err := readCapped(path, maxConfig)
	if errors.Is(err, fs.ErrNotExist) {
		return config{}, fmt.Errorf("%s is missing; make the folder with: zonebroker init %s --trust-domain YOUR.DOMAIN", path, dir)
	}
	if err != nil {
		return config{}, err
	}
	dec := yaml.NewDecoder(bytes.NewReader(raw))
	dec.KnownFields(true)
	c := config{LogID: "main", Listen: "127.0.0.1:8443", Database: "embedded:" + embeddedName, Policy: policyDir, EKRoots: rootsDir, EKCRLs: crlsDir, Trust: trustDir, TrustRefresh: duration(time.Hour)}
	if err := dec.Decode(&c); err != nil {
		return config{}, fmt.Errorf("%s: %w", path, err)
	}
	if err := dec.Decode(new(any)); !errors.Is(err, io.EOF) {
		return config{}, fmt.Errorf("%s: holds more than one document", path)
	}
	if _, err := spiffeid.TrustDomainFromString(c.TrustDomain); err != nil {
		return config{}, fmt.Errorf("%s: trust_domain: %w", path, err)
	}
	if c.OIDCIssuer != "" && !claim.ValidIssuer(c.OIDCIssuer) {
		return config{}, fmt.Errorf("%s: oidc_issuer: %q is not an https URL without user, query, fragment and trailing slash", path, c.OIDCIssuer)
	}
	if d := time.Duration(c.TrustRefresh); d != 0 && d < time.Minute {
		return config{}, fmt.Errorf("%s: trust_refresh: at least 1m, or 0 for never", path)
	}
	if err := c.Limits.check(); err != nil {
		return config{}, fmt.Errorf("%s: %w", path, err)
	}
	if c.Replica == "" {
		if c.Replica, err = os.Hostname(); err != nil {
			return config{}, fmt.Errorf("name this replica (replica: in %s): %w", path, err)
		}
	}
	return c, nil
}

// within resolves a configured path against the broker's folder.
func within(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

func readCapped(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if int64(len(raw)) > limit {
		return nil, fmt.Errorf("%s: larger than %d bytes", path, limit)
	}
	return raw, nil
}

// readSecret reads a key file and refuses one that others can read: a secret
// that was readable has to be taken for known.
func readSecret(path string) ([]byte, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("key file %s is not a regular file", path)
	}
	if perm := info.Mode().Perm(); perm&0o077 != 0 {
		return nil, fmt.Errorf("key file %s has mode %04o and must be 0600: chmod 600 it, and replace the key if others could read it", path, perm)
	}
	return readCapped(path, maxConfig)
}

func readClusterKey(dir string) ([32]byte, error) {
	path := filepath.Join(dir, secretsDir, clusterKey)
	raw, err := readSecret(path)
	if err != nil {
		return [32]byte{}, err
	}
	key, err := hex.DecodeString(strings.TrimSpace(string(raw)))
	if err != nil || len(key) != 32 {
		return [32]byte{}, fmt.Errorf("key file %s does not hold 64 hex digits", path)
	}
	return [32]byte(key), nil
}

func newClusterKey() ([]byte, error) {
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		return nil, err
	}
	return []byte(hex.EncodeToString(key) + "\n"), nil
}
