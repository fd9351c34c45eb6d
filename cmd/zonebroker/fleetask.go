package main

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/cmd/internal/terminal"
)

func driftBaselineCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "baseline",
		Short: "Nodes that differ from their fleet",
		Long: `Baseline prints the nodes whose last measurement differs from a baseline, ordered
by node, with each fact that does: from the values that a reference set of the
policy in force allows (--by reference --name SET), or from what more than half of
the nodes of their TPM model or group measured (--by model, --by group). The fleet
is no authority: where most of it is wrong, the few that are right are listed.`,
		Example: `  zonebroker drift baseline --by model
  zonebroker drift baseline --by reference --name good --zone payments --all -o csv`,
		Args: cobra.NoArgs,
	}
	server, output := serverFlag(cmd), listOutputFlag(cmd)
	list := newPageFlags(cmd, "nodes")
	list.add(cmd, "by", "reference, model or group")
	list.add(cmd, "name", "of the reference set, TPM model or group (default: every model or group)")
	list.add(cmd, "zone", "only nodes of this zone")
	_ = cmd.MarkFlagRequired("by")
	_ = cmd.RegisterFlagCompletionFunc("by", cobra.FixedCompletions(
		[]string{api.BaselineReference, api.BaselineModel, api.BaselineGroup}, cobra.ShellCompDirectiveNoFileComp))
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := newAdminClient(*server)
		if err != nil {
			return err
		}
		fetch := func(query url.Values) (page[api.Deviation], error) {
			var p api.BaselinePage
			err := c.get(cmd.Context(), "/v1/drift/baseline", query, &p)
			return page[api.Deviation]{items: p.Deviations, next: p.NextCursor, asOf: p.AsOf, whole: func(all []api.Deviation) any {
				p.Deviations = all
				return p
			}}, err
		}
		return pager[api.Deviation]{cmd, list, fetch}.print(*output, "NODE MACHINE ZONE COHORT OF LAST-OK DIFFERS", func(d api.Deviation) []string {
			var facts []string
			for _, f := range d.Facts {
				facts = append(facts, f.Name+": "+shown(f.Seen))
			}
			return []string{d.Node, d.Machine, d.Zone, d.Cohort, strconv.FormatInt(d.Nodes, 10), ago(d.LastOKAt), strings.Join(facts, ", ")}
		})
	}
	return cmd
}

func driftDetectionCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "detection",
		Short: "How long drift may have gone unseen",
		Long: `Detection prints changes, newest first, with the time that each may have gone
unseen: from the accepted attestation before it, which was good, to the record that
shows it. It is an upper bound: the machine changed somewhere in between. "zonebroker
drift summary" sums the times up. Without --since it is the last 24 hours.`,
		Example: `  zonebroker drift detection --since 168h --kind pcr.4
  zonebroker drift detection --zone payments --all -o csv`,
		Args: cobra.NoArgs,
	}
	server, output := serverFlag(cmd), listOutputFlag(cmd)
	list := newListFlags(cmd, "changes")
	list.add(cmd, "node", "only this node")
	list.add(cmd, "zone", "only nodes of this zone")
	list.add(cmd, "kind", "only this kind, for example pcr.4 or verdict")
	_ = cmd.RegisterFlagCompletionFunc("kind", cobra.FixedCompletions(driftKinds(), cobra.ShellCompDirectiveNoFileComp))
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := newAdminClient(*server)
		if err != nil {
			return err
		}
		fetch := func(query url.Values) (page[api.Detection], error) {
			var p api.DetectionPage
			err := c.get(cmd.Context(), "/v1/drift/detections", query, &p)
			return page[api.Detection]{items: p.Detections, next: p.NextCursor, asOf: p.AsOf, since: p.Since, whole: func(all []api.Detection) any {
				p.Detections = all
				return p
			}}, err
		}
		return pager[api.Detection]{cmd, list, fetch}.print(*output, "WHEN NODE ZONE KIND TOOK LAST-GOOD RECORD", func(d api.Detection) []string {
			return []string{ago(d.RecordedAt), d.Node, d.Zone, d.Kind, millis(d.TookMS), stamp(d.LastGood), d.ID}
		})
	}
	return cmd
}

// millis is a span for people.
func millis(ms int64) string { return span(time.Duration(ms) * time.Millisecond) }

func driftSummaryCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "summary",
		Short: "Times to detect, by kind of drift",
		Long: `Summary prints, for each kind of drift, how often it was seen and how long it may
have gone unseen: the median, the 99th percentile and the longest of the times that
"zonebroker drift detection" lists. At most 31 days; without --since it is the last
24 hours.`,
		Example: `  zonebroker drift summary --zone payments
  zonebroker drift summary --since 720h -o json`,
		Args: cobra.NoArgs,
	}
	server, output := serverFlag(cmd), listOutputFlag(cmd)
	list := newSpanFlags(cmd)
	list.add(cmd, "zone", "only nodes of this zone")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := newAdminClient(*server)
		if err != nil {
			return err
		}
		fetch := func(query url.Values) (page[api.KindDetection], error) {
			query.Del("limit")
			var s api.DetectionSummary
			err := c.get(cmd.Context(), "/v1/drift/summary", query, &s)
			return page[api.KindDetection]{items: s.Kinds, asOf: s.AsOf, since: s.Since, whole: func(all []api.KindDetection) any {
				s.Kinds = all
				return s
			}}, err
		}
		return pager[api.KindDetection]{cmd, list, fetch}.print(*output, "KIND EVENTS MEDIAN P99 LONGEST", func(k api.KindDetection) []string {
			return []string{k.Kind, strconv.FormatInt(k.Events, 10), millis(k.P50MS), millis(k.P99MS), millis(k.MaxMS)}
		})
	}
	return cmd
}

func historyRatesCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rates",
		Short: "How many attestations were accepted, by hour and zone",
		Long: `Rates prints, for each hour and zone, how many attestations were accepted and how
many were denied, oldest first, with the share of the accepted ones and the reasons
of the denials. The counts are kept by the commits that record the attestations;
"zonebroker history crosscheck" compares them with the rows. Attestations that
chose no zone have none here. At most 31 days; without --since the last 24 hours.`,
		Example: `  zonebroker history rates --zone payments
  zonebroker history rates --since 168h -o csv`,
		Args: cobra.NoArgs,
	}
	server, output := serverFlag(cmd), listOutputFlag(cmd)
	list := newSpanFlags(cmd)
	list.add(cmd, "zone", "only this zone")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := newAdminClient(*server)
		if err != nil {
			return err
		}
		fetch := func(query url.Values) (page[api.Rate], error) {
			query.Del("limit")
			var l api.RateList
			err := c.get(cmd.Context(), "/v1/rates", query, &l)
			return page[api.Rate]{items: l.Rates, asOf: l.AsOf, since: l.Since, whole: func(all []api.Rate) any {
				l.Rates = all
				return l
			}}, err
		}
		return pager[api.Rate]{cmd, list, fetch}.print(*output, "HOUR ZONE ACCEPTED DENIED SUCCESS REASONS", func(r api.Rate) []string {
			return []string{
				stamp(r.Hour), r.Zone, strconv.FormatInt(r.Accepted, 10), strconv.FormatInt(r.Denied, 10),
				fmt.Sprintf("%d.%d%%", r.Success/10, r.Success%10), countText(r.Reasons),
			}
		})
	}
	return cmd
}

func historyCrossCheckCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "crosscheck",
		Short: "Compare the hourly counts with the rows that stand",
		Long: `Crosscheck counts the attestations of each hour again and prints the counts that
are not those of their rows; none where all agree. It exits 1 when one differs.
Rows that retention dropped are missing from their hours. It reads every row of the
time, at most seven days; without --since it is the last 24 hours. Whether the rows
are those that were recorded is what "zonebroker history verify" tells.`,
		Example: `  zonebroker history crosscheck
  zonebroker history crosscheck --since 168h -o json`,
		Args: cobra.NoArgs,
	}
	server, output := serverFlag(cmd), listOutputFlag(cmd)
	list := newSpanFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := newAdminClient(*server)
		if err != nil {
			return err
		}
		differ := 0
		fetch := func(query url.Values) (page[api.CountDifference], error) {
			query.Del("limit")
			var l api.CrossCheck
			err := c.get(cmd.Context(), "/v1/crosscheck", query, &l)
			differ = len(l.Differences)
			return page[api.CountDifference]{items: l.Differences, asOf: l.AsOf, since: l.Since, whole: func(all []api.CountDifference) any {
				l.Differences = all
				return l
			}}, err
		}
		err = pager[api.CountDifference]{cmd, list, fetch}.print(*output, "HOUR ZONE VERDICT REASON COUNTED ROWS", func(d api.CountDifference) []string {
			return []string{stamp(d.Hour), d.Zone, d.Verdict, d.Reason, strconv.FormatInt(d.Counted, 10), strconv.FormatInt(d.Rows, 10)}
		})
		if err == nil && differ > 0 {
			err = fmt.Errorf("%d counts are not those of their rows", differ)
		}
		return err
	}
	return cmd
}

// newSpanFlags adds the flags of a question over all of a time.
func newSpanFlags(cmd *cobra.Command) *listFlags {
	l := everything()
	l.filters, l.marks = map[string]*string{}, map[string]*bool{}
	l.addTime(cmd, "since", "from this time on: 24h, or RFC 3339")
	l.addTime(cmd, "until", "before this time: 24h, or RFC 3339")
	return l
}

// countText is "3 policy.no_zone, 1 policy.secure_boot".
func countText(counts map[string]int64) string {
	var out []string
	for _, code := range sortedKeys(counts) {
		out = append(out, strconv.FormatInt(counts[code], 10)+" "+terminal.Plain(code))
	}
	return strings.Join(out, ", ")
}
