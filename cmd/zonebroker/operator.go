package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/client"
	"github.com/zonebroker/zonebroker/cmd/internal/terminal"
)

func newOperatorCmd() *cobra.Command {
	return group("operator", "Role certificates: who may ask a broker over TCP",
		"Operator makes, lists and revokes the certificates with which operators and\nauditors ask a broker from elsewhere than its own machine.",
		`  zonebroker operator add alice --role operator -o alice.pem
  zonebroker operator list`,
		operatorAddCmd(), operatorListCmd(), operatorRevokeCmd())
}

func operatorAddCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "add NAME --role auditor|operator -o FILE",
		Short: "Give somebody a role, and make the credential for it",
		Long: `Add makes a key and a certificate, has the broker give its holder a role, and
writes both with the broker's address and trust anchor into FILE (mode 0600).
An auditor reads; an operator admits, approves and disables too. Only the admin
socket hands out roles.

The file is all that its holder needs: zonebroker --credential FILE node list,
or ZONEBROKER_CREDENTIAL=FILE. Whoever has it acts in the role until it ends or
is revoked. The private key is made here and sent to nobody.`,
		Example: `  zonebroker operator add alice --role operator -o alice.pem
  zonebroker operator add audit-2026 --role auditor --ttl 168h --address https://broker.example.org:8443 -o audit.pem`,
		Args: cobra.ExactArgs(1),
	}
	server := socketFlag(cmd)
	var a addition
	f := cmd.Flags()
	f.StringVar(&a.role, "role", "", "auditor or operator")
	f.DurationVar(&a.ttl, "ttl", api.DefaultOperatorTTL*time.Second, "lifetime, up to 9600h")
	f.StringVarP(&a.out, "out", "o", "", "file to write; it must not exist")
	f.StringVar(&a.address, "address", "", "where its holder reaches the broker, https://host:port (default: as the broker's folder says)")
	f.StringVar(&a.anchor, "anchor", "", "the broker's trust anchor (default: anchor.pem of the broker's folder)")
	for _, name := range []string{"role", "out"} {
		_ = cmd.MarkFlagRequired(name)
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := newSocketClient(*server)
		if err != nil {
			return err
		}
		o, at, err := a.add(cmd.Context(), c, args[0])
		if err != nil {
			return err
		}
		fmt.Fprintln(cmd.OutOrStdout(), a.out)
		fmt.Fprintf(cmd.ErrOrStderr(), "%s is %s of %s, ends %s\n", terminal.Plain(o.Name), terminal.Plain(o.Role), at, relative(o.ExpiresAt, time.Now()))
		if onlyHere(at) {
			fmt.Fprintln(cmd.ErrOrStderr(), "note: that address is of this machine alone; --address names another, and so does --server later")
		}
		return nil
	}
	return cmd
}

// addition is what operator add was told.
type addition struct {
	role, out, address, anchor string
	ttl                        time.Duration
}

// add has the broker give a role to a new key, writes the credential, and
// returns the broker's address in it.
func (a addition) add(ctx context.Context, c *adminClient, name string) (o api.Operator, server string, err error) {
	if a.ttl < time.Second {
		return o, "", usageError{"--ttl: at least 1s"}
	}
	cred := credential{name: name}
	if cred.server, cred.anchor, err = brokerAddress(a.address, a.anchor); err != nil {
		return o, "", err
	}
	key, spki, err := newRoleKey()
	if err != nil {
		return o, "", err
	}
	req := api.OperatorRequest{Name: name, Role: a.role, SPKI: spki, TTL: int(a.ttl.Seconds())}
	if err := req.Validate(); err != nil {
		return o, "", usageError{err.Error()}
	}
	// The file first: a role whose key is lost is a line to revoke.
	file, err := os.OpenFile(a.out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return o, "", err
	}
	if err := c.post(ctx, "/v1/operators", req, &o); err != nil {
		return o, "", errors.Join(err, file.Close(), os.Remove(a.out))
	}
	der, err := newRoleCertificate(o.Name, key, o.CreatedAt, o.ExpiresAt)
	if err == nil {
		cred.cert = tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
		err = cred.write(file)
	}
	if err != nil {
		return o, "", fmt.Errorf("%s has the role, and its credential was not written (revoke it: zonebroker operator revoke %s): %w", o.Name, o.Name, err)
	}
	return o, cred.server, nil
}

func (c credential) write(f *os.File) (err error) {
	defer func() { err = errors.Join(err, f.Close()) }()
	text, err := c.encode()
	if err != nil {
		return err
	}
	if _, err := f.Write(text); err != nil {
		return err
	}
	return f.Sync()
}

// brokerAddress finds out what the holder of a credential needs of the broker:
// flags, else the folder ZONEBROKER_DIR.
func brokerAddress(address, anchor string) (server string, pem []byte, err error) {
	dir := os.Getenv("ZONEBROKER_DIR")
	if address == "" && dir != "" {
		if address, err = addressOf(filepath.Join(dir, envFile)); err != nil {
			return "", nil, err
		}
	}
	if address == "" {
		return "", nil, usageError{"--address: where is the broker reached, https://host:port?"}
	}
	if err := client.CheckServer(address); err != nil {
		return "", nil, usageError{"--address: want https://host:port"}
	}
	if anchor == "" {
		if dir == "" {
			return "", nil, usageError{"--anchor: the file with the broker's trust anchor is needed"}
		}
		anchor = filepath.Join(dir, anchorCert)
	}
	if pem, err = readCapped(anchor, maxConfig); err != nil {
		return "", nil, err
	}
	_, err = client.Anchor(pem)
	return address, pem, err
}

// onlyHere reports whether an address leads nowhere from another machine.
func onlyHere(server string) bool {
	u, err := url.Parse(server)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(u.Hostname())
	return u.Hostname() == "localhost" || err == nil && (ip.IsLoopback() || ip.IsUnspecified())
}

// addressOf reads the address out of the env file of a running broker; "" where
// it is not running.
func addressOf(path string) (string, error) {
	text, err := readCapped(path, maxConfig)
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		if address, ok := strings.CutPrefix(strings.TrimSpace(line), "ZONEAGENT_SERVER="); ok {
			return address, nil
		}
	}
	return "", nil
}

func operatorListCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List who has a role",
		Long: `List shows the holders of role certificates, oldest first, with those that are
revoked and those that ended within the last 90 days. The history has all.`,
		Example: `  zonebroker operator list
  zonebroker operator list --credential alice.pem -o json`,
		Args: cobra.NoArgs,
	}
	server, output := serverFlag(cmd), listOutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := newAdminClient(*server)
		if err != nil {
			return err
		}
		var list api.OperatorList
		if err := c.get(cmd.Context(), "/v1/operators", nil, &list); err != nil {
			return err
		}
		return printOperators(cmd.OutOrStdout(), *output, list.Operators)
	}
	return cmd
}

func printOperators(w io.Writer, output format, list []api.Operator) error {
	at := time.Now()
	return printList(w, output, list, "NAME ROLE STATUS ENDS BY KEY", func(o api.Operator) []string {
		return []string{o.Name, o.Role, o.Status, relative(o.ExpiresAt, at), o.By, o.SPKISHA256[:min(16, len(o.SPKISHA256))]}
	})
}

func operatorRevokeCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "revoke NAME",
		Short: "Take a role back",
		Long: `Revoke takes the role of a certificate back: every replica refuses it within a
second, on open connections too. Only the admin socket revokes. The name is free
for a new certificate afterwards.`,
		Example: `  zonebroker operator revoke alice --note "left the team"`,
		Args:    cobra.ExactArgs(1),
	}
	server, output := socketFlag(cmd), outputFlag(cmd)
	note := cmd.Flags().String("note", "", "why, for the history")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := newSocketClient(*server)
		if err != nil {
			return err
		}
		req := api.RevokeRequest{Note: *note}
		if err := req.Validate(); err != nil {
			return usageError{err.Error()}
		}
		var o api.Operator
		if err := c.post(cmd.Context(), "/v1/operators/"+url.PathEscape(args[0])+"/revoke", req, &o); err != nil {
			return err
		}
		if *output == asJSON {
			return terminal.JSON(cmd.OutOrStdout(), o)
		}
		return printOperators(cmd.OutOrStdout(), *output, []api.Operator{o})
	}
	return cmd
}
