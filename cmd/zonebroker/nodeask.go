package main

import (
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/cmd/internal/terminal"
)

func nodeAsOfCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "as-of NODE",
		Short: "What a node was at a time, and by which record",
		Long: `As-of prints what the history says of one node at a time: the zone that it had
earned, the last attestation at or before that time, whether that was refused, and
whether an SVID of it still lived. A refused node can hold an SVID that has not
expired; both are said. Without --at it is now.`,
		Example: `  zonebroker node as-of abcdefghijklmnopqrstuvwxyz --at 2026-11-20T12:00:00Z
  zonebroker node as-of abcdefghijklmnopqrstuvwxyz --at 24h -o json`,
		Args: cobra.ExactArgs(1),
	}
	server, output := serverFlag(cmd), outputFlag(cmd)
	at := cmd.Flags().String("at", "", "the time that is asked for: 24h ago, or RFC 3339 (default: now)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := newAdminClient(*server)
		if err != nil {
			return err
		}
		query := url.Values{}
		if *at != "" {
			t, err := parseTime(*at, time.Now())
			if err != nil {
				return usageError{"--at: " + err.Error()}
			}
			query.Set("at", t.UTC().Format(time.RFC3339Nano))
		}
		var n api.NodeAt
		if err := c.get(cmd.Context(), "/v1/nodes/"+url.PathEscape(args[0])+"/as-of", query, &n); err != nil {
			return err
		}
		if *output == asJSON {
			return terminal.JSON(cmd.OutOrStdout(), n)
		}
		noteFresh(cmd, n.AsOf)
		return printNodeAt(cmd, n)
	}
	return cmd
}

func printNodeAt(cmd *cobra.Command, n api.NodeAt) error {
	now := time.Now()
	rows := [][2]string{{"node", n.Node}, {"at", both(n.At, now)}}
	if n.Interval != nil {
		rows = append(rows, [][2]string{
			{"zone", n.Zone},
			{"since", both(n.Interval.From, now)},
			{"until", both(n.Interval.Until, now)},
			{"policy version", strconv.FormatInt(n.Interval.PolicyVersion, 10)},
			{"measured", n.Interval.Measured},
			{"first attestation", n.Interval.First},
			{"renewals", strconv.FormatInt(n.Interval.Renewals, 10)},
		}...)
	} else {
		rows = append(rows, [2]string{"zone", "none"})
	}
	if r := n.Record; r != nil {
		rows = append(rows, [][2]string{{"last record", r.ID}, {"recorded", both(r.RecordedAt, now)}, {"verdict", r.Verdict}, {"reason", r.Reason}}...)
	} else {
		rows = append(rows, [2]string{"last record", "none: it had not attested"})
	}
	return terminal.Rows(cmd.OutOrStdout(), append(rows, [2]string{"an SVID lived", yesNo(n.ValidSVID)}))
}

func nodeIntervalsCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "intervals NODE",
		Short: "The spans in which a node earned a zone, newest first",
		Long: `Intervals prints the spans in which a node earned one zone with one measurement
under one policy version, newest first; one that has not ended yet has nothing in
ENDED. A span ends when something changed, when an attestation was refused, when
none came in time (lapsed), and at the end of each week (split: the next one goes
on). Without --since they are those of a week.`,
		Example: `  zonebroker node intervals abcdefghijklmnopqrstuvwxyz
  zonebroker node intervals abcdefghijklmnopqrstuvwxyz --since 720h -o csv`,
		Args: cobra.ExactArgs(1),
	}
	server, output := serverFlag(cmd), listOutputFlag(cmd)
	list := newFilterFlags(cmd, "spans")
	list.addTime(cmd, "since", "from this time on: 24h, or RFC 3339")
	list.addTime(cmd, "until", "before this time: 24h, or RFC 3339")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := newAdminClient(*server)
		if err != nil {
			return err
		}
		fetch := func(query url.Values) (page[api.Interval], error) {
			var p api.IntervalPage
			err := c.get(cmd.Context(), "/v1/nodes/"+url.PathEscape(args[0])+"/intervals", query, &p)
			return page[api.Interval]{items: p.Intervals, asOf: p.AsOf, since: p.Since, whole: func(all []api.Interval) any {
				p.Intervals = all
				return p
			}}, err
		}
		return pager[api.Interval]{cmd, list, fetch}.print(*output, "FROM UNTIL ZONE POLICY MEASURED RENEWALS ENDED FIRST LAST", func(i api.Interval) []string {
			return []string{
				stamp(i.From), stamp(i.Until), i.Zone, strconv.FormatInt(i.PolicyVersion, 10), short(i.Measured),
				strconv.FormatInt(i.Renewals, 10), i.Ended, i.First, i.Last,
			}
		})
	}
	return cmd
}

func nodeUnseenCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "unseen",
		Short: "Nodes that no accepted attestation came from for a while",
		Long: `Unseen prints the nodes, disabled ones left out, whose last accepted attestation
is older than --since, ordered by node. Some of them tried and were refused: REASON
says why. --silent leaves those out and keeps the ones that nothing was heard of.`,
		Example: `  zonebroker node unseen --since 1h
  zonebroker node unseen --since 24h --zone payments --silent --all -o csv`,
		Args: cobra.NoArgs,
	}
	server, output := serverFlag(cmd), listOutputFlag(cmd)
	list := newPageFlags(cmd, "nodes")
	list.addTime(cmd, "since", "seen since then is seen: 1h ago, or RFC 3339")
	list.add(cmd, "zone", "only nodes of this zone")
	list.addMark(cmd, "silent", "leave out those that tried and were refused since")
	_ = cmd.MarkFlagRequired("since")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := newAdminClient(*server)
		if err != nil {
			return err
		}
		fetch := func(query url.Values) (page[api.Unseen], error) {
			var p api.UnseenPage
			err := c.get(cmd.Context(), "/v1/unseen", query, &p)
			return page[api.Unseen]{items: p.Nodes, next: p.NextCursor, asOf: p.AsOf, whole: func(all []api.Unseen) any {
				p.Nodes = all
				return p
			}}, err
		}
		return pager[api.Unseen]{cmd, list, fetch}.print(*output, "NODE MACHINE ZONE STATUS LAST-OK LAST-ATTEMPT REASON", func(n api.Unseen) []string {
			return []string{n.Node, n.Machine, n.Zone, n.Status, ago(n.LastOKAt), ago(n.LastAttemptAt), n.Reason}
		})
	}
	return cmd
}
