package main

import (
	"cmp"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/zonebroker/zonebroker/broker/trust"
	"github.com/zonebroker/zonebroker/broker/trust/platform"
	"github.com/zonebroker/zonebroker/cmd/internal/terminal"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// refreshedItem is what became of a certificate or an object in JSON.
type refreshedItem struct {
	Outcome  string    `json:"outcome"`
	Kind     string    `json:"kind"`
	Name     string    `json:"name"`
	Maker    string    `json:"maker"`
	Role     string    `json:"role"`
	Subject  string    `json:"subject"`
	SHA256   string    `json:"sha256"`
	NotAfter time.Time `json:"not_after,omitzero"`
	Address  string    `json:"address"`
	Detail   string    `json:"detail"`
}

type refreshOptions struct {
	mirror, maker, kind string
	force               bool
	wishes              []string
}

func trustRefreshCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "refresh",
		Short: "Fetch what is missing or due",
		Long: `Refresh asks the address of each row that is not in its folder, and of keys, lists
and collateral that are due: keys after six hours, the others after a day. What
has a fingerprint is kept where it matches; AMD's lists and VCEKs and Intel's
collateral where their roots in the folder have signed them and they are not older
than what is held; keys over TLS only. Rows without an address can only be
imported. Each answer has 20 seconds and three tries; AMD's service is asked once
in ten seconds. What failed is left alone for a while, longer each time, unless
--force is given.

--wish names what no table can: the VCEK of a chip for reports that come without
one (amd.vcek/PRODUCT-CHIP-TCB, in hex as they stand in the report), the
collateral of a machine's FMSPC (intel.collateral/FMSPC). Wishes are kept, and
served by the broker's own refreshing too.

The proxies of HTTPS_PROXY and HTTP_PROXY are used. --mirror names a copy laid out
as MIRROR/host/path (as wget -x does), for networks that reach nothing else. It
exits 1 where something could not be had.`,
		Example: `  zonebroker trust refresh
  zonebroker trust refresh --maker IFX --mirror https://mirror.example.org/tpm -o json
  zonebroker trust refresh --kind intel.collateral --wish intel.collateral/b0c06f000000`,
		Args: cobra.NoArgs,
	}
	dir, output := dirFlag(cmd), listOutputFlag(cmd)
	var o refreshOptions
	f := cmd.Flags()
	f.StringVar(&o.mirror, "mirror", "", "URL of a copy of the publishers' files")
	f.StringVar(&o.maker, "maker", "", "only CAs of this TPM maker, for example IFX")
	kindFlag(cmd, &o.kind, "only this kind, for example tpm or jwks")
	f.BoolVar(&o.force, "force", false, "ask for what is not due, and for what failed lately")
	f.StringSliceVar(&o.wishes, "wish", nil, "fetch and keep fresh an object that the table cannot list: KIND/NAME")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := checkKind(o.kind); err != nil {
			return err
		}
		t, err := openTrust(*dir)
		if err != nil {
			return err
		}
		if err := t.wish(o.wishes); err != nil {
			return err
		}
		ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, os.Interrupt)
		defer stop()
		got, err := t.refresh(ctx, o, cmd.ErrOrStderr())
		if err != nil {
			return err
		}
		if err := printRefreshed(cmd.OutOrStdout(), *output, got); err != nil {
			return err
		}
		t.note(cmd.ErrOrStderr())
		return refreshVerdict(cmd.ErrOrStderr(), got)
	}
	return cmd
}

// wish keeps what was named by KIND/NAME among the wishes.
func (t trusted) wish(wishes []string) error {
	for _, w := range wishes {
		kind, name, _ := strings.Cut(w, "/")
		if _, err := platform.Wish(t.dir, platform.ID{Kind: kind, Name: name}); err != nil {
			return usageError{"--wish: " + err.Error()}
		}
	}
	return nil
}

// refresh fetches for both folders, as far as the options reach.
func (t trusted) refresh(ctx context.Context, o refreshOptions, notes io.Writer) ([]refreshedItem, error) {
	var out []refreshedItem
	say := func(outcome, name, subject string, n, of int) {
		switch outcome {
		case trust.RefreshPresent, trust.RefreshNoAddress, platform.RefreshUnchanged, platform.RefreshWaiting:
		default:
			fmt.Fprintf(notes, "%d/%d %s %s %s\n", n, of, outcome, name, terminal.Plain(shortSubject(subject)))
		}
	}
	if o.kind == "" || o.kind == kindTPM {
		got, err := t.makers.Refresh(ctx, trust.Source{Mirror: o.mirror, Maker: o.maker}, func(r trust.Refreshed, n, of int) {
			say(r.Outcome, r.Maker, r.Subject, n, of)
		})
		if err != nil {
			return nil, err
		}
		for _, g := range got {
			out = append(out, refreshedItem{g.Outcome, kindTPM, g.Maker, g.Maker, g.Role, g.Subject, hex.EncodeToString(g.SHA256[:]), g.NotAfter, g.Address, g.Detail})
		}
	}
	if o.maker != "" || o.kind == kindTPM {
		return out, nil
	}
	from := &platform.Fetcher{Mirror: o.mirror, Waiting: func(host string, d time.Duration) {
		fmt.Fprintf(notes, "waiting %s to ask %s\n", d.Round(time.Second), terminal.Plain(host))
	}}
	got, err := t.platforms.Refresh(ctx, from, platform.Choice{Kind: o.kind, Force: o.force}, func(r platform.Refreshed, n, of int) {
		say(r.Outcome, r.ID.String(), r.Subject, n, of)
	})
	if err != nil {
		return nil, err
	}
	for _, g := range got {
		out = append(out, refreshedItem{g.Outcome, g.Kind, g.Name, "", "", g.Subject, g.SHA256, g.Ends, g.Address, g.Detail})
	}
	return out, nil
}

func printRefreshed(w io.Writer, output format, got []refreshedItem) error {
	return printList(w, output, got, "OUTCOME KIND NAME FINGERPRINT EXPIRES SUBJECT ADDRESS DETAIL", func(c refreshedItem) []string {
		return []string{c.Outcome, c.Kind, c.Name, cmp.Or(c.SHA256[:min(16, len(c.SHA256))], "-"), dateOf(c.NotAfter), shortSubject(c.Subject), cmp.Or(c.Address, "-"), c.Detail}
	})
}

// refreshFix is for networks that reach no publisher.
const refreshFix = "see DETAIL of each; where this machine reaches no publisher, set HTTPS_PROXY, name a copy with --mirror, or take files by zonebroker trust import"

func refreshVerdict(notes io.Writer, got []refreshedItem) error {
	count, makers := map[string]int{}, 0
	for _, g := range got {
		count[g.Outcome]++
		if g.Kind == kindTPM && (g.Outcome == trust.RefreshFailed || g.Outcome == trust.RefreshMismatch) {
			makers++
		}
	}
	fmt.Fprintf(notes, "%d fetched, %d there already, %d unchanged, %d failed, %d wait after a failure, %d are something else, %d have no address\n",
		count[trust.RefreshFetched], count[trust.RefreshPresent], count[platform.RefreshUnchanged], count[trust.RefreshFailed],
		count[platform.RefreshWaiting], count[trust.RefreshMismatch], count[trust.RefreshNoAddress])
	if n := count[trust.RefreshNoAddress]; n > 0 {
		fmt.Fprintln(notes, "what has no address is taken by zonebroker trust import, from a bundle or a publisher's page")
	}
	n := count[trust.RefreshFailed] + count[trust.RefreshMismatch] + count[platform.RefreshWaiting]
	switch {
	case makers > 0:
		return found{reason.EKCertUntrusted, fmt.Sprintf("%d objects could not be had, %d of them makers' CAs; EK certificates below those are refused", n, makers), refreshFix}
	case n > 0:
		return found{reason.PolicyReferenceMissing, fmt.Sprintf("%d objects could not be had; documents that need one of which nothing is held are refused", n), refreshFix}
	}
	return nil
}
