package main

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	spiffe "github.com/spiffe/go-spiffe/v2/workloadapi"

	"github.com/zonebroker/zonebroker/broker/agent/workloadapi"
	"github.com/zonebroker/zonebroker/cmd/internal/terminal"
)

// fetchFlags are what all kinds of fetch take.
type fetchFlags struct {
	socket  string
	output  string
	write   string
	timeout time.Duration
}

func fetchCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "fetch x509|jwt|bundle",
		Short: "Fetch an identity from the running agent, as a workload does",
		Long: `fetch is a client of the SPIFFE Workload API that the running agent of this host
serves. It gets what its own user and executable may have by the workloads of
the node's zone, so run it as the user of the workload. Programs that know the
Workload API ask the socket themselves and are told of every renewal; fetch is
for those that read files, and to see what the agent would give.

A rule with a path names the workload's executable, which fetch is not.`,
		Example: `  zoneagent fetch x509 --write /run/checkout
  zoneagent fetch jwt --audience payments-api
  zoneagent fetch bundle -o json`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usageError{"say what to fetch: x509, jwt or bundle"}
		},
	}
	cmd.AddCommand(fetchX509Command(), fetchJWTCommand(), fetchBundleCommand())
	return cmd
}

func (f *fetchFlags) register(cmd *cobra.Command) {
	socket := os.Getenv(spiffe.SocketEnv)
	if socket == "" {
		socket = defaultSocket
	}
	cmd.Flags().StringVar(&f.socket, "socket", socket, "socket of the agent, PATH or unix:PATH (environment: "+spiffe.SocketEnv+")")
	cmd.Flags().DurationVar(&f.timeout, "timeout", 30*time.Second, "give up after this time")
	registerOutput(cmd, &f.output)
}

// with connects to the agent and does what.
func (f *fetchFlags) with(cmd *cobra.Command, what func(context.Context, *workloadapi.Client) error) error {
	if err := checkOutput(f.output); err != nil {
		return err
	}
	path, err := socketPath(f.socket)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(cmd.Context(), f.timeout, fmt.Errorf("not done within %s", f.timeout))
	defer cancel()
	client, err := workloadapi.Dial(ctx, path)
	if err != nil {
		return err
	}
	defer client.Close()
	return what(ctx, client)
}

// socketPath takes a path or the unix URL that SPIFFE_ENDPOINT_SOCKET has.
func socketPath(text string) (string, error) {
	path, isURL := strings.CutPrefix(text, "unix:")
	if isURL {
		path = strings.TrimPrefix(path, "//")
	}
	if path == "" || (!isURL && strings.Contains(path, ":")) {
		return "", usageError{"--socket: want PATH or unix:PATH; the agent is on this host"}
	}
	return filepath.Abs(path)
}

// notFetched describes what the agent did not give.
func notFetched(e *workloadapi.ClientError) terminal.Report {
	r := terminal.Report{Code: string(e.Kind), Why: e.Why, Exit: terminal.ExitError}
	switch e.Kind {
	case workloadapi.Unreachable:
		r.What, r.Exit = "no agent answers at this socket", terminal.ExitUnreachable
		r.Fix = "start it with zoneagent run, or name its socket with --socket or " + spiffe.SocketEnv
	case workloadapi.Denied:
		r.What, r.Exit = "the agent has no such identity for this caller", terminal.ExitDenied
		r.Fix = "run this as the user of a workload of the node's zone; see zoneagent status"
	case workloadapi.Unverified:
		r.What, r.Exit = "what the agent gave does not verify; nothing was kept", terminal.ExitUnproved
		r.Fix = "look at the clock of this host and at zoneagent status"
	case workloadapi.Unavailable:
		r.What, r.Fix = "the agent could not answer", "try again; see zoneagent status"
	default:
		r.What = "the agent refused the request"
	}
	return r
}

func fetchX509Command() *cobra.Command {
	var f fetchFlags
	cmd := &cobra.Command{
		Use:   "x509",
		Short: "Fetch an X.509-SVID, with its key and the trust bundle into files",
		Long: `x509 fetches the X.509-SVID of this caller. With --write DIR it writes svid.pem
(the chain), key.pem (PKCS#8, mode 0600) and bundle.pem (the authorities to
trust) into DIR. Each file is replaced as a whole, the key first; a program that
reads between two of them finds a key and a certificate of two renewals, and has
to read again. Without --write the key is fetched and dropped: it is never
printed.

The SVID is short-lived. Run x509 again well before it expires, at half of its
life, and let the program read its files again.`,
		Example: `  zoneagent fetch x509
  zoneagent fetch x509 --write /run/checkout --socket /run/zoneagent/workload.sock
  zoneagent fetch x509 -o json`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.with(cmd, func(ctx context.Context, c *workloadapi.Client) error { return f.x509(ctx, cmd, c) })
		},
	}
	f.register(cmd)
	cmd.Flags().StringVar(&f.write, "write", "", "write svid.pem, key.pem and bundle.pem into folder DIR, which is made if it is missing")
	return cmd
}

// fetchedX509 is the JSON of an X.509-SVID. It has no key on purpose: output
// ends in logs.
type fetchedX509 struct {
	SPIFFEID  string    `json:"spiffe_id"`
	Workload  string    `json:"workload"`
	NotBefore time.Time `json:"not_before"`
	ExpiresAt time.Time `json:"expires_at"`
	Chain     string    `json:"chain"`  // PEM, leaf first
	Bundle    string    `json:"bundle"` // PEM
	Written   []string  `json:"written"`
}

func (f *fetchFlags) x509(ctx context.Context, cmd *cobra.Command, c *workloadapi.Client) error {
	svid, authorities, err := c.X509SVID(ctx)
	if err != nil {
		return err
	}
	chain, key, err := svid.Marshal()
	if err != nil {
		return err
	}
	roots := pemOf(authorities)
	leaf := svid.Certificates[0]
	out := fetchedX509{
		SPIFFEID: svid.ID.String(), Workload: svid.Hint, NotBefore: leaf.NotBefore.UTC(), ExpiresAt: leaf.NotAfter.UTC(),
		Chain: string(chain), Bundle: string(roots), Written: []string{},
	}
	if f.write != "" {
		// The key first: a new certificate must not wait for its key.
		files := []file{{"key.pem", key, 0o600}, {"svid.pem", chain, 0o644}, {"bundle.pem", roots, 0o644}}
		if out.Written, err = writeFiles(f.write, files); err != nil {
			return err
		}
	}
	if f.output == asJSON {
		return terminal.JSON(cmd.OutOrStdout(), out)
	}
	return terminal.Rows(cmd.OutOrStdout(), [][2]string{
		{"spiffe id", out.SPIFFEID},
		{"workload", out.Workload},
		{"expires", "in " + until(time.Now(), leaf.NotAfter)},
		{"trusts", fmt.Sprintf("%d authorities of %s", len(authorities), svid.ID.TrustDomain())},
		{"written", strings.Join(out.Written, ", ")},
	})
}

func fetchJWTCommand() *cobra.Command {
	var (
		f            fetchFlags
		audience, id string
	)
	cmd := &cobra.Command{
		Use:   "jwt --audience AUDIENCE",
		Short: "Fetch a JWT-SVID for one audience",
		Long: `jwt fetches a JWT-SVID of this caller for one audience and prints the token alone.
The zone has to list the audience. Whoever has the token is the workload until
it expires: do not put it on command lines or into logs.`,
		Example: `  zoneagent fetch jwt --audience payments-api
  zoneagent fetch jwt --audience payments-api --socket unix:/run/zoneagent/workload.sock -o json`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if audience == "" {
				return usageError{"--audience is missing: name the one who shall accept the token"}
			}
			var wanted spiffeid.ID
			if id != "" {
				var err error
				if wanted, err = spiffeid.FromString(id); err != nil {
					return usageError{"--spiffe-id: " + err.Error()}
				}
			}
			return f.with(cmd, func(ctx context.Context, c *workloadapi.Client) error { return f.jwt(ctx, cmd, c, audience, wanted) })
		},
	}
	f.register(cmd)
	cmd.Flags().StringVar(&audience, "audience", "", "who shall accept the token; exactly one")
	cmd.Flags().StringVar(&id, "spiffe-id", "", "refuse any other identity than this one")
	return cmd
}

// fetchedJWT is the JSON of a JWT-SVID. The token is a credential.
type fetchedJWT struct {
	SPIFFEID  string    `json:"spiffe_id"`
	Workload  string    `json:"workload"`
	Audience  string    `json:"audience"`
	ExpiresAt time.Time `json:"expires_at"`
	Token     string    `json:"token"`
}

func (f *fetchFlags) jwt(ctx context.Context, cmd *cobra.Command, c *workloadapi.Client, audience string, id spiffeid.ID) error {
	svid, err := c.JWTSVID(ctx, audience, id)
	if err != nil {
		return err
	}
	if f.output == asJSON {
		return terminal.JSON(cmd.OutOrStdout(), fetchedJWT{
			SPIFFEID: svid.ID.String(), Workload: svid.Hint, Audience: audience, ExpiresAt: svid.Expiry.UTC(), Token: svid.Marshal(),
		})
	}
	fmt.Fprintln(cmd.ErrOrStderr(), terminal.Plain(fmt.Sprintf("a token of %s for %s, good for %s", svid.ID, audience, until(time.Now(), svid.Expiry))))
	_, err = fmt.Fprintln(cmd.OutOrStdout(), svid.Marshal())
	return err
}

func fetchBundleCommand() *cobra.Command {
	var f fetchFlags
	cmd := &cobra.Command{
		Use:   "bundle",
		Short: "Fetch the trust bundle: the authorities of X.509-SVIDs and JWT-SVIDs",
		Long: `bundle fetches the trust bundle of the node's trust domain. With --write DIR it
writes bundle.pem (X.509 authorities) and bundle.json (SPIFFE bundle, with the
keys of JWT-SVIDs) into DIR, each replaced as a whole.`,
		Example: `  zoneagent fetch bundle
  zoneagent fetch bundle --write /run/checkout -o json`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.with(cmd, func(ctx context.Context, c *workloadapi.Client) error { return f.bundle(ctx, cmd, c) })
		},
	}
	f.register(cmd)
	cmd.Flags().StringVar(&f.write, "write", "", "write bundle.pem and bundle.json into folder DIR, which is made if it is missing")
	return cmd
}

// fetchedBundle is the JSON of a trust bundle.
type fetchedBundle struct {
	TrustDomain     string          `json:"trust_domain"`
	X509Authorities int             `json:"x509_authorities"`
	JWTAuthorities  []string        `json:"jwt_authorities"` // key ids
	Bundle          json.RawMessage `json:"bundle"`          // SPIFFE bundle document
	Written         []string        `json:"written"`
}

func (f *fetchFlags) bundle(ctx context.Context, cmd *cobra.Command, c *workloadapi.Client) error {
	bundle, err := c.Bundle(ctx)
	if err != nil {
		return err
	}
	text, err := bundle.Marshal()
	if err != nil {
		return err
	}
	out := fetchedBundle{
		TrustDomain: bundle.TrustDomain().Name(), X509Authorities: len(bundle.X509Authorities()), JWTAuthorities: []string{},
		Bundle: text, Written: []string{},
	}
	for id := range bundle.JWTAuthorities() {
		out.JWTAuthorities = append(out.JWTAuthorities, id)
	}
	slices.Sort(out.JWTAuthorities)
	if f.write != "" {
		files := []file{{"bundle.pem", pemOf(bundle.X509Authorities()), 0o644}, {"bundle.json", append(text, '\n'), 0o644}}
		if out.Written, err = writeFiles(f.write, files); err != nil {
			return err
		}
	}
	if f.output == asJSON {
		return terminal.JSON(cmd.OutOrStdout(), out)
	}
	return terminal.Rows(cmd.OutOrStdout(), [][2]string{
		{"trust domain", out.TrustDomain},
		{"x509 authorities", fmt.Sprint(out.X509Authorities)},
		{"jwt authorities", strings.Join(out.JWTAuthorities, ", ")},
		{"written", strings.Join(out.Written, ", ")},
	})
}

func pemOf(certificates []*x509.Certificate) []byte {
	var text []byte
	for _, c := range certificates {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return text
}
