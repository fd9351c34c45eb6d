package main

import (
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/zonebroker/zonebroker/broker/api"
)

// facts are those that every measurement may have, for Tab and for help.
func facts() []string {
	var out []string
	for _, pcr := range []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14} {
		out = append(out, "pcr."+strconv.Itoa(pcr))
	}
	return append(out, "event_log", "secure_boot", "firmware", "boot.kernel")
}

func historyMembersCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "members",
		Short: "Who had earned a zone at a time, on what evidence",
		Long: `Members prints the nodes that had earned a zone at a time, ordered by node, with
the policy version that decided and the records that say so: the span began with
FIRST, and LAST is the newest attestation in it ("zonebroker history show" prints
them, "zonebroker history evidence" what they rest on). A node counts from its
decision until its evidence was no longer fresh, or until something ended that
before: a denial, another zone, an operator. With --grace it counts as long as an
SVID of it had not expired. Without --at it is now.`,
		Example: `  zonebroker history members --zone payments --at 2026-11-20T12:00:00Z
  zonebroker history members --at 24h --grace --all -o csv`,
		Args: cobra.NoArgs,
	}
	server, output := serverFlag(cmd), listOutputFlag(cmd)
	list := newPageFlags(cmd, "nodes")
	list.add(cmd, "zone", "only this zone")
	list.addTime(cmd, "at", "the time that is asked for: 24h ago, or RFC 3339 (default: now)")
	list.addMark(cmd, "grace", "count nodes whose SVIDs had not expired, too")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := newAdminClient(*server)
		if err != nil {
			return err
		}
		fetch := func(query url.Values) (page[api.Member], error) {
			var p api.MemberPage
			err := c.get(cmd.Context(), "/v1/members", query, &p)
			query.Set("at", p.At.UTC().Format(time.RFC3339Nano)) // of all pages the same
			return page[api.Member]{items: p.Members, next: p.NextCursor, asOf: p.AsOf, whole: func(all []api.Member) any {
				p.Members = all
				return p
			}}, err
		}
		return pager[api.Member]{cmd, list, fetch}.print(*output, "NODE MACHINE ZONE FROM UNTIL POLICY MEASURED LAST", func(m api.Member) []string {
			return []string{m.Node, m.Machine, m.Zone, stamp(m.From), stamp(m.Until), strconv.FormatInt(m.PolicyVersion, 10), short(m.Measured), m.Last}
		})
	}
	return cmd
}

// stamp is a time in a column, "" for the zero time.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

func historyPopulationCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "population",
		Short: "How many nodes measured a value at a time",
		Long: `Population counts the nodes of the zones, at a time, by the value of one fact of
their measurement, the most frequent first: pcr.0 to pcr.23 (SHA-256), event_log
(digest of the firmware's log), secure_boot, firmware, or a fact that the log
proves, such as boot.kernel. With --value it counts that value alone. Without --at
it is now. Ten of the nodes are named.`,
		Example: `  zonebroker history population --fact pcr.4
  zonebroker history population --fact secure_boot --zone payments --at 24h -o csv`,
		Args: cobra.NoArgs,
	}
	server, output := serverFlag(cmd), listOutputFlag(cmd)
	list := newFilterFlags(cmd, "values")
	list.add(cmd, "fact", "pcr.0 to pcr.23, event_log, secure_boot, firmware or boot.…")
	list.add(cmd, "value", "only this value")
	list.add(cmd, "zone", "only nodes of this zone")
	list.addTime(cmd, "at", "the time that is asked for: 24h ago, or RFC 3339 (default: now)")
	_ = cmd.MarkFlagRequired("fact")
	_ = cmd.RegisterFlagCompletionFunc("fact", cobra.FixedCompletions(facts(), cobra.ShellCompDirectiveNoFileComp))
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := newAdminClient(*server)
		if err != nil {
			return err
		}
		fetch := func(query url.Values) (page[api.Population], error) {
			var p api.PopulationPage
			err := c.get(cmd.Context(), "/v1/population", query, &p)
			return page[api.Population]{items: p.Values, asOf: p.AsOf, whole: func(all []api.Population) any {
				p.Values = all
				return p
			}}, err
		}
		return pager[api.Population]{cmd, list, fetch}.print(*output, "NODES VALUE SOME", func(p api.Population) []string {
			return []string{strconv.FormatInt(p.Nodes, 10), short(p.Value), strings.Join(p.Some, " ")}
		})
	}
	return cmd
}
