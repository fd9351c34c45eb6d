package main

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/ledger"
)

func nodeTimelineCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "timeline NODE",
		Short: "Show what happened to a node, oldest first",
		Long: `Timeline prints the life of one node, a line each: attestations and the SVIDs
that came of them, denials with their reasons, reboots, what changed from what to
what, later SVIDs of its workloads, and what operators did. It shows the newest
--limit records, the oldest of them first; without --since those of a week.`,
		Example: `  zonebroker node timeline abcdefghijklmnopqrstuvwxyz
  zonebroker node timeline abcdefghijklmnopqrstuvwxyz --since 24h -o json`,
		Args: cobra.ExactArgs(1),
	}
	server, output := serverFlag(cmd), listOutputFlag(cmd)
	list := newListFlags(cmd, "records")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := newAdminClient(*server)
		if err != nil {
			return err
		}
		fetch := func(query url.Values) (page[api.TimelineEntry], error) {
			var p api.TimelinePage
			err := c.get(cmd.Context(), "/v1/nodes/"+url.PathEscape(args[0])+"/timeline", query, &p)
			// Later pages are older: the whole is put in order when all are there.
			slices.Reverse(p.Entries)
			return page[api.TimelineEntry]{items: p.Entries, next: p.NextCursor, asOf: p.AsOf, since: p.Since}, err
		}
		entries, _, err := pager[api.TimelineEntry]{cmd, list, fetch}.collect()
		if err != nil {
			return err
		}
		slices.Reverse(entries)
		if *output != asTable {
			return printList(cmd.OutOrStdout(), *output, entries, "", nil)
		}
		var lines []happening
		for _, e := range entries {
			lines = append(lines, happenings(e)...)
		}
		return printList(cmd.OutOrStdout(), asTable, lines, "WHEN WHAT ZONE DETAIL", func(h happening) []string {
			return []string{h.when.UTC().Format(time.RFC3339), h.what, h.zone, h.detail}
		})
	}
	return cmd
}

// happening is a line of a timeline.
type happening struct {
	when       time.Time
	what, zone string
	detail     string
}

// happenings turns a record into lines: first what was seen, then what was
// decided about it.
func happenings(e api.TimelineEntry) []happening {
	var out []happening
	add := func(what, detail string) {
		out = append(out, happening{e.RecordedAt, what, e.Zone, detail})
	}
	for _, code := range e.Events {
		_, name, _ := strings.Cut(code, ".")
		add(strings.ReplaceAll(name, "_", " "), code)
	}
	for _, d := range e.Drift {
		add("changed", d.Kind+": "+shown(d.Before)+" -> "+shown(d.After))
	}
	switch {
	case e.Type == ledger.TypeAttestation && e.Verdict == ledger.VerdictAllow:
		add("attested", "tier "+strconv.Itoa(e.Tier)+tail(", ", svidText(e.SVIDs)))
	case e.Type == ledger.TypeAttestation:
		add("denied", reasonText(e.Reasons)+" (zonebroker history explain "+e.ID+")")
	case e.Type == ledger.TypeIssuance:
		add("issued", svidText(e.SVIDs))
	default:
		add(e.Type, "by "+e.By+tail(": ", e.Note))
	}
	return out
}

func shown(value string) string {
	if value == "" {
		return "none"
	}
	return short(value)
}

func tail(separator, text string) string {
	if text == "" {
		return ""
	}
	return separator + text
}

// reasonText names every reason, and what the first one says.
func reasonText(reasons []api.Reason) string {
	var codes []string
	for _, r := range reasons {
		if !slices.Contains(codes, r.Code) {
			codes = append(codes, r.Code)
		}
	}
	text := strings.Join(codes, ", ")
	if len(reasons) > 0 {
		text += tail(": ", reasons[0].Detail)
	}
	return text
}

func svidText(svids []api.TimelineSVID) string {
	var out []string
	for _, s := range svids {
		text := s.Profile + " SVID " + s.SPIFFEID
		if s.Audience != "" {
			text += " for " + s.Audience
		}
		out = append(out, text+" until "+s.ExpiresAt.UTC().Format(time.RFC3339))
	}
	return strings.Join(out, ", ")
}
