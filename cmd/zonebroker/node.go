package main

import (
	"cmp"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/cmd/internal/terminal"
)

func newNodeCmd() *cobra.Command {
	return group("node", "Nodes: who is admitted, who waits, what each has earned",
		`Node lists and shows the hosts that the broker knows, and says which machines
are ours: an EK in the inventory is admitted, a machine that asked without being
there waits in the pending list, a node that looks like a copy or came back after
a TPM clear waits until an operator approves it.`,
		`  zonebroker node list
  zonebroker node admit 4f1d…e0 --machine rack7-n1 --group rack-7`,
		nodeListCmd(), nodeShowCmd(), nodeTimelineCmd(), nodeAsOfCmd(), nodeIntervalsCmd(), nodeUnseenCmd(),
		nodeAdmitCmd(), nodeRevokeCmd(), nodePendingCmd(), nodeApproveCmd(), nodeAnnounceCmd(), nodeDisableCmd(), nodeEraseCmd())
}

func nodeListCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List all nodes",
		Long: `List prints every node with what it holds now. Standing is computed from expiry
at the time of the answer: fresh, stale (past fresh_until, inside the grace),
expired, denied or none.`,
		Example: `  zonebroker node list
  zonebroker node list -o json`,
		Args: cobra.NoArgs,
	}
	server, output := serverFlag(cmd), listOutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := newAdminClient(*server)
		if err != nil {
			return err
		}
		// A list that ends at page one without saying so is a wrong list.
		fetch := func(query url.Values) (page[api.Node], error) {
			var p api.NodePage
			err := c.get(cmd.Context(), "/v1/nodes", query, &p)
			return page[api.Node]{items: p.Nodes, next: p.NextCursor}, err
		}
		return pager[api.Node]{cmd, everything(), fetch}.print(*output, "NODE STANDING STATUS ZONE TIER ATTESTED FRESH REASON MACHINE", func(n api.Node) []string {
			return []string{
				n.ID, n.Standing, n.Status, n.Zone, strconv.Itoa(n.Tier), ago(n.AttestedAt),
				ago(n.FreshUntil), n.Reason, n.Machine,
			}
		})
	}
	return cmd
}

func nodeShowCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "show NODE",
		Short:   "Show one node",
		Long:    "Show prints what the broker knows of one node: its root of trust, how it was\nadmitted, and what the last decision left behind.",
		Example: "  zonebroker node show abcdefghijklmnopqrstuvwxyz",
		Args:    cobra.ExactArgs(1),
	}
	server, output := serverFlag(cmd), outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := newAdminClient(*server)
		if err != nil {
			return err
		}
		var n api.Node
		if err := c.get(cmd.Context(), "/v1/nodes/"+url.PathEscape(args[0]), nil, &n); err != nil {
			return err
		}
		return printNode(cmd, *output, n)
	}
	return cmd
}

func printNode(cmd *cobra.Command, output format, n api.Node) error {
	if output == asJSON {
		return terminal.JSON(cmd.OutOrStdout(), n)
	}
	now := time.Now()
	zone := ""
	if n.Zone != "" {
		zone = n.Zone + " (tier " + strconv.Itoa(n.Tier) + ")"
	}
	return terminal.Rows(cmd.OutOrStdout(), [][2]string{
		{"node", n.ID},
		{"standing", n.Standing},
		{"status", n.Status},
		{"zone", zone},
		{"verdict", n.Verdict},
		{"reason", n.Reason},
		{"attested", both(n.AttestedAt, now)},
		{"fresh until", both(n.FreshUntil, now)},
		{"SVIDs expire", both(n.ExpiresAt, now)},
		{"last attempt", both(n.LastAttemptAt, now)},
		{"reboot until", both(n.RebootUntil, now)},
		{"last attestation", n.Last},
		{"policy version", strconv.FormatInt(n.PolicyVersion, 10)},
		{"machine", n.Machine},
		{"groups", strings.Join(n.Groups, ", ")},
		{"admitted by", n.AdmittedBy},
		{"TPM maker", n.Manufacturer},
		{"TPM model", n.TPMModel},
		{"TPM kind", n.TPMKind},
		{"root of trust", strings.TrimSpace(n.RootKind + " " + n.RootName)},
		{"root hash", n.RootHash},
		{"AK name", cmp.Or(n.AKName, "none: the next key of the machine that earns a zone")},
		{"known since", both(n.CreatedAt, now)},
	})
}

// labelFlags adds the flags that describe a machine.
func labelFlags(cmd *cobra.Command) (machine *string, groups *[]string) {
	machine = cmd.Flags().String("machine", "", "label of the machine")
	groups = cmd.Flags().StringArray("group", nil, "group that zones select by; may be given several times")
	return machine, groups
}

func printAdmission(cmd *cobra.Command, output format, a api.Admission) error {
	if output == asJSON {
		return terminal.JSON(cmd.OutOrStdout(), a)
	}
	return terminal.Rows(cmd.OutOrStdout(), [][2]string{
		{"admission", a.ID},
		{"kind", a.Kind},
		{"machine", a.Machine},
		{"groups", strings.Join(a.Groups, ", ")},
		{"hashes", strings.Join(a.EKHashes, ", ")},
		{"revoked", yesNo(a.Revoked)},
		{"by", a.By},
		{"at", both(a.CreatedAt, time.Now())},
	})
}

func nodePendingCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "pending",
		Short: "List machines that asked and wait for an operator",
		Long: `Pending lists machines that asked and that nothing admits, oldest first. Of a
machine with a TPM nothing is verified beyond the form of its EK: look at it before
you approve it. Of one that documents name, PROVED says what they proved.`,
		Example: `  zonebroker node pending
  zonebroker node approve 4f1d…e0 --machine rack7-n1`,
		Args: cobra.NoArgs,
	}
	server, output := serverFlag(cmd), listOutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := newAdminClient(*server)
		if err != nil {
			return err
		}
		var l api.PendingList
		if err := c.get(cmd.Context(), "/v1/pending", nil, &l); err != nil {
			return err
		}
		now := time.Now()
		return printList(cmd.OutOrStdout(), *output, l.Pending, "HASH PROVED FIRST-SEEN LAST-SEEN", func(p api.PendingNode) []string {
			return []string{p.EKHash, p.Proved, relative(p.FirstSeen, now), relative(p.LastSeen, now)}
		})
	}
	return cmd
}

func nodeApproveCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "approve NODE|EK-HASH",
		Short: "Approve a pending machine, or a node that waits",
		Long: `Approve with a hash admits a machine of the pending list. Approve with a
node lets it go on after a TPM clear, a suspected copy, another AK or a disable;
what it quotes next becomes its new baseline.

--release-key takes the key from a node that documents name, an instance that was
built anew for example: the next host whose evidence of that machine is accepted
gets the node. Do it while you know who comes next.`,
		Example: `  zonebroker node approve 4f1d…e0 --machine rack7-n1 --group rack-7
  zonebroker node approve abcdefghijklmnopqrstuvwxyz --note "board replaced, ticket 4711"`,
		Args: cobra.ExactArgs(1),
	}
	server, output := serverFlag(cmd), outputFlag(cmd)
	machine, groups := labelFlags(cmd)
	note := cmd.Flags().String("note", "", "why, for the history")
	release := cmd.Flags().Bool("release-key", false, "of a node that documents name: its key ends, the next one accepted gets it")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := newAdminClient(*server)
		if err != nil {
			return err
		}
		req := api.ApproveRequest{Machine: *machine, Groups: *groups, Note: *note, ReleaseKey: *release}
		if err := req.Validate(); err != nil {
			return usageError{err.Error()}
		}
		var a api.Approval
		if err := c.post(cmd.Context(), "/v1/nodes/"+url.PathEscape(args[0])+"/approve", req, &a); err != nil {
			return err
		}
		switch {
		case *output == asJSON:
			return terminal.JSON(cmd.OutOrStdout(), a)
		case a.Admission != nil:
			return printAdmission(cmd, *output, *a.Admission)
		case a.Node != nil:
			return printNode(cmd, *output, *a.Node)
		}
		return nil
	}
	return cmd
}

func nodeDisableCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "disable NODE",
		Short: "Disable a node: it earns nothing until it is approved",
		Long: `Disable refuses everything that a node asks from now on. SVIDs that it holds
live to their expiry.`,
		Example: `  zonebroker node disable abcdefghijklmnopqrstuvwxyz --note stolen`,
		Args:    cobra.ExactArgs(1),
	}
	server, output := serverFlag(cmd), outputFlag(cmd)
	note := cmd.Flags().String("note", "", "why, for the history")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := newAdminClient(*server)
		if err != nil {
			return err
		}
		req := api.DisableRequest{Note: *note}
		if err := req.Validate(); err != nil {
			return usageError{err.Error()}
		}
		var n api.Node
		if err := c.post(cmd.Context(), "/v1/nodes/"+url.PathEscape(args[0])+"/disable", req, &n); err != nil {
			return err
		}
		return printNode(cmd, *output, n)
	}
	return cmd
}
