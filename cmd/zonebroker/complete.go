package main

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/claim"
	"github.com/zonebroker/zonebroker/broker/trust"
	"github.com/zonebroker/zonebroker/cmd/internal/completion"
)

// places says what Tab offers, by the words of usage lines and names of flags.
func places() completion.Places {
	return completion.Places{
		Words: map[string]completion.Offers{
			"NODE": offerNodes, "EK-HASH": offerPending, "ID": offerRecords, "NAME": offerOperators,
		},
		Flags: map[string]completion.Offers{
			"node": offerNodes, "zone": offerZones, "boot": offerRecords, "output": offerFormats, "type": offerTypes,
			"verdict": completion.Fixed("allow", "deny"),
			"role":    completion.Fixed("auditor", "operator"),
			"grace":   completion.Fixed(string(claim.GraceNever), string(claim.GraceOutageOnly), string(claim.GraceAlways)),
			"since":   completion.Fixed("1h", "24h", "168h"),
			"maker":   offerMakers,
			"state":   completion.Fixed(trust.StatePresent, trust.StateMissing, trust.StateExpired, trust.StateUnlisted),
		},
		Paths: []string{"DIR", "FILE", "dir", "env", "bundle", "credential", "save", "overrides", "pcrs", "diff"},
	}
}

// offerFormats are those that the command takes: lists have more.
func offerFormats(_ context.Context, cmd *cobra.Command) ([]string, error) {
	if kinds := strings.Split(cmd.Flags().Lookup("output").Value.Type(), "|"); len(kinds) > 1 {
		return kinds, nil
	}
	return nil, nil // a file
}

// ask fills out from a broker, by the flags of the line that is being typed.
func ask(ctx context.Context, cmd *cobra.Command, path string, query url.Values, out any) error {
	var e endpoint
	e.server, _ = cmd.Flags().GetString("server") // "" for a command without it
	e.credential, _ = cmd.Flags().GetString("credential")
	c, err := newAdminClient(e)
	if err != nil {
		return err
	}
	return c.get(ctx, path, query, out)
}

func offerNodes(ctx context.Context, cmd *cobra.Command) ([]string, error) {
	var page api.NodePage
	if err := ask(ctx, cmd, "/v1/nodes", url.Values{"limit": {"500"}}, &page); err != nil {
		return nil, err
	}
	var out []string
	for _, n := range page.Nodes {
		out = append(out, fmt.Sprintf("%s\t%s %s %s", n.ID, n.Machine, n.Standing, n.Zone))
	}
	return out, nil
}

// offerZones knows the zones that nodes have earned, and no others.
func offerZones(ctx context.Context, cmd *cobra.Command) ([]string, error) {
	var page api.NodePage
	if err := ask(ctx, cmd, "/v1/nodes", url.Values{"limit": {"500"}}, &page); err != nil {
		return nil, err
	}
	var out []string
	for _, n := range page.Nodes {
		out = append(out, n.Zone)
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

func offerPending(ctx context.Context, cmd *cobra.Command) ([]string, error) {
	var list api.PendingList
	if err := ask(ctx, cmd, "/v1/pending", nil, &list); err != nil {
		return nil, err
	}
	var out []string
	for _, p := range list.Pending {
		out = append(out, p.EKHash)
	}
	return out, nil
}

// newest are the records that somebody at a keyboard may mean.
func newest(ctx context.Context, cmd *cobra.Command) ([]api.Entry, error) {
	var page api.HistoryPage
	err := ask(ctx, cmd, "/v1/history", url.Values{"limit": {"50"}}, &page)
	return page.Entries, err
}

func offerRecords(ctx context.Context, cmd *cobra.Command) ([]string, error) {
	entries, err := newest(ctx, cmd)
	var out []string
	for _, e := range entries {
		out = append(out, fmt.Sprintf("%s\t%s %s %s", e.ID, e.Type, e.Verdict, e.Reason))
	}
	return out, err
}

func offerTypes(ctx context.Context, cmd *cobra.Command) ([]string, error) {
	entries, err := newest(ctx, cmd)
	var out []string
	for _, e := range entries {
		out = append(out, e.Type)
	}
	slices.Sort(out)
	return slices.Compact(out), err
}

func offerOperators(ctx context.Context, cmd *cobra.Command) ([]string, error) {
	if cmd.Name() == "add" {
		return nil, nil // a name that is free is for its giver to find
	}
	var list api.OperatorList
	if err := ask(ctx, cmd, "/v1/operators", nil, &list); err != nil {
		return nil, err
	}
	var out []string
	for _, o := range list.Operators {
		out = append(out, fmt.Sprintf("%s\t%s %s", o.Name, o.Role, o.Status))
	}
	return out, nil
}

// offerMakers knows those of the table.
func offerMakers(context.Context, *cobra.Command) ([]string, error) {
	rows, err := trust.Table()
	var out []string
	for _, r := range rows {
		out = append(out, r.Maker)
	}
	return slices.Compact(out), err
}
