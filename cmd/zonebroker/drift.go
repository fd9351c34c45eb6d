package main

import (
	"net/url"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/ledger"
)

func newDriftCmd() *cobra.Command {
	return group("drift", "What changed on the nodes, with before and after",
		`Drift lists changes of what nodes measured and earned: PCRs, event log, secure
boot, firmware, zone, tier, verdict. Each is decided and written with the record
that brought it. A machine that is refused again and again in the same state has
drifted once.`,
		`  zonebroker drift list --since 24h
  zonebroker drift list --kind pcr.4 --zone payments`,
		driftListCmd(), driftBaselineCmd(), driftDetectionCmd(), driftSummaryCmd())
}

func driftListCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List changes, newest first",
		Long: `List prints what changed, newest first. Kinds are pcr.0 to pcr.23, event_log,
secure_boot, firmware, zone, tier, verdict, reason and policy (the version that
decided, where the verdict changed). The table shortens digests; -o json has
them whole. Without --since it is the last 24 hours. A change of a PCR is
explained by "zonebroker history explain".`,
		Example: `  zonebroker drift list --since 24h
  zonebroker drift list --node abcdefghijklmnopqrstuvwxyz --kind secure_boot
  zonebroker drift list --zone payments --until 2026-12-01T00:00:00Z --limit 5000 -o json`,
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
		fetch := func(query url.Values) (page[api.Drift], error) {
			var p api.DriftPage
			err := c.get(cmd.Context(), "/v1/drift", query, &p)
			return page[api.Drift]{items: p.Changes, next: p.NextCursor, asOf: p.AsOf, since: p.Since}, err
		}
		return pager[api.Drift]{cmd, list, fetch}.print(*output, "WHEN NODE ZONE KIND BEFORE AFTER RECORD", func(d api.Drift) []string {
			return []string{ago(d.RecordedAt), d.Node, d.Zone, d.Kind, short(d.Before), short(d.After), d.ID}
		})
	}
	return cmd
}

// driftKinds are the kinds of drift of a firmware log's PCRs and of all else.
func driftKinds() []string {
	var out []string
	for _, pcr := range []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 14} {
		out = append(out, ledger.DriftPCR+strconv.Itoa(pcr))
	}
	return append(out, ledger.DriftEventLog, ledger.DriftSecureBoot, ledger.DriftFirmware, ledger.DriftZone,
		ledger.DriftTier, ledger.DriftVerdict, ledger.DriftReason, ledger.DriftPolicy)
}
