package main

import (
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/cmd/internal/terminal"
)

func newSVIDCmd() *cobra.Command {
	return group("svid", "Issued SVIDs: from a serial number to decision and evidence, and back",
		`Svid answers for certificates and tokens that somebody shows: which node had it,
which decision authorised it, on which evidence, under which policy. List goes the
other way: which SVIDs rest on a measurement, a policy version or a piece of
evidence, and which of them still live while their node is refused.`,
		`  zonebroker svid show 4a0b0c0d0e0f00010203040506070809
  zonebroker svid list --denied-now`,
		svidShowCmd(), svidListCmd())
}

func svidShowCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show SERIAL",
		Short: "From a serial number to the decision and its evidence",
		Long: `Show prints the node and the decision behind an SVID. SERIAL is the serial number
of a certificate in hex, with or without colons, or the jti of a token. The parts
of the evidence are named by their SHA-256; "zonebroker history evidence" writes
them into a file that anybody can judge again. A decision that retention has
dropped is left out; who had the SVID is known as long as its own row is kept.`,
		Example: `  zonebroker svid show 4a0b0c0d0e0f00010203040506070809
  zonebroker svid show 4A:0B:0C:0D:0E:0F:00:01:02:03:04:05:06:07:08:09 -o json`,
		Args: cobra.ExactArgs(1),
	}
	server, output := serverFlag(cmd), outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := newAdminClient(*server)
		if err != nil {
			return err
		}
		serial := strings.ToLower(strings.ReplaceAll(args[0], ":", ""))
		var s api.SVIDTrail
		if err := c.get(cmd.Context(), "/v1/svids/"+url.PathEscape(serial), nil, &s); err != nil {
			return err
		}
		if *output == asJSON {
			return terminal.JSON(cmd.OutOrStdout(), s)
		}
		noteFresh(cmd, s.AsOf)
		return printTrail(cmd, s)
	}
	return cmd
}

func printTrail(cmd *cobra.Command, t api.SVIDTrail) error {
	now, s := time.Now(), t.SVID
	rows := [][2]string{
		{"serial", s.Serial},
		{"profile", s.Profile},
		{"SPIFFE ID", s.SPIFFEID},
		{"audience", s.Audience},
		{"node", s.Node},
		{"zone", s.Zone},
		{"key", s.Key},
		{"valid from", both(s.NotBefore, now)},
		{"valid until", both(s.NotAfter, now)},
		{"record", s.Record},
		{"recorded", both(s.RecordedAt, now)},
		{"policy version", strconv.FormatInt(s.PolicyVersion, 10)},
		{"attestation", s.Attestation},
	}
	if d := t.Decision; d != nil {
		rows = append(rows, [2]string{"decided", both(d.RecordedAt, now)}, [2]string{"verdict", d.Verdict})
	} else {
		rows = append(rows, [2]string{"decided", "the record is no longer kept"})
	}
	for _, p := range t.Evidence {
		rows = append(rows, [2]string{"evidence", p.Kind + " " + p.SHA256})
	}
	return terminal.Rows(cmd.OutOrStdout(), rows)
}

func svidListCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "SVIDs issued under some evidence, measurement or policy, newest first",
		Long: `List prints issued SVIDs, newest first, with the record that authorised each. All
filters have to hold: --node, --zone, a measured value (--fact with --value), the
policy version that decided (--policy), one piece of evidence by its SHA-256
(--evidence). --denied-now keeps those that still live while the last attestation
of their node was refused, or while the node may not ask any more: nothing calls
them back before they expire. Without --since it is the last 24 hours.`,
		Example: `  zonebroker svid list --since 24h --zone payments
  zonebroker svid list --fact secure_boot --value off --since 168h
  zonebroker svid list --denied-now --all -o csv`,
		Args: cobra.NoArgs,
	}
	server, output := serverFlag(cmd), listOutputFlag(cmd)
	list := newListFlags(cmd, "SVIDs")
	list.add(cmd, "node", "only of this node")
	list.add(cmd, "zone", "only of this zone")
	list.add(cmd, "fact", "with --value: a fact of the measurement under which it was issued, for example pcr.4")
	list.add(cmd, "value", "value of that fact")
	list.add(cmd, "policy", "only under this policy version")
	list.add(cmd, "evidence", "only on this piece of evidence, SHA-256 in hex")
	list.addMark(cmd, "denied-now", "only those that still live while their node is refused")
	cmd.MarkFlagsRequiredTogether("fact", "value")
	_ = cmd.RegisterFlagCompletionFunc("fact", cobra.FixedCompletions(facts(), cobra.ShellCompDirectiveNoFileComp))
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := newAdminClient(*server)
		if err != nil {
			return err
		}
		fetch := func(query url.Values) (page[api.SVID], error) {
			var p api.SVIDPage
			err := c.get(cmd.Context(), "/v1/svids", query, &p)
			return page[api.SVID]{items: p.SVIDs, next: p.NextCursor, asOf: p.AsOf, since: p.Since, whole: func(all []api.SVID) any {
				p.SVIDs = all
				return p
			}}, err
		}
		return pager[api.SVID]{cmd, list, fetch}.print(*output, "ISSUED SERIAL PROFILE NODE ZONE EXPIRES POLICY RECORD", func(s api.SVID) []string {
			return []string{
				stamp(s.RecordedAt), s.Serial, s.Profile, s.Node, s.Zone, ago(s.NotAfter), strconv.FormatInt(s.PolicyVersion, 10), s.Record,
			}
		})
	}
	return cmd
}
