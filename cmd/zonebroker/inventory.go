package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/cmd/internal/terminal"
)

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func newInventoryCmd() *cobra.Command {
	return group("inventory", "The machines that there should be, against those that attest",
		`Inventory compares the list of machines that an asset database knows with the
nodes that attest: which machines are missing, and which nodes nobody lists. The
list admits nothing; "zonebroker node admit" does.`,
		`  zonebroker inventory import machines.csv
  zonebroker inventory coverage`,
		inventoryImportCmd(), inventoryCoverageCmd())
}

func inventoryImportCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "import FILE",
		Short: "Replace the list of machines that there should be",
		Long: `Import replaces the list of machines, as a whole and in one transaction, and
records who did, how many they are, and the SHA-256 of the list. FILE is CSV with
the header machine,model,site,ek_sha256, or a JSON array of objects with those
members; all but machine may be empty. A machine stands for the node of the same
label, or of that EK. FILE has at most 8 MiB, some 80 000 machines; decisions wait
while the list is written.`,
		Example: `  zonebroker inventory import machines.csv --note "CMDB of Monday"`,
		Args:    cobra.ExactArgs(1),
	}
	server, output := serverFlag(cmd), outputFlag(cmd)
	note := cmd.Flags().String("note", "", "why, for the history")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := newAdminClient(*server)
		if err != nil {
			return err
		}
		raw, err := readCapped(args[0], api.MaxInventory)
		if err != nil {
			return err
		}
		req := api.InventoryRequest{CSV: string(raw), Note: *note}
		if strings.HasPrefix(strings.TrimSpace(req.CSV), "[") {
			if req.CSV, err = inventoryOfJSON(req.CSV); err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
		}
		if err := req.Validate(); err != nil {
			return fmt.Errorf("%s: %w", args[0], err)
		}
		var out api.Inventory
		if err := c.post(cmd.Context(), "/v1/inventory", req, &out); err != nil {
			return err
		}
		if *output == asJSON {
			return terminal.JSON(cmd.OutOrStdout(), out)
		}
		return terminal.Rows(cmd.OutOrStdout(), [][2]string{
			{"record", out.ID},
			{"machines", strconv.FormatInt(out.Machines, 10)},
			{"SHA-256", out.SHA256},
			{"by", out.By},
			{"at", both(out.CreatedAt, time.Now())},
		})
	}
	return cmd
}

// inventoryOfJSON makes the CSV of an array of objects, strictly.
func inventoryOfJSON(text string) (string, error) {
	var list []struct {
		Machine string `json:"machine"`
		Model   string `json:"model"`
		Site    string `json:"site"`
		EK      string `json:"ek_sha256"`
	}
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&list); err != nil {
		return "", err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return "", errors.New("more than one JSON document")
	}
	machines := make([]api.InventoryMachine, len(list))
	for i, m := range list {
		machines[i] = api.InventoryMachine{Machine: m.Machine, Model: m.Model, Site: m.Site, EKSHA256: m.EK}
	}
	return api.InventoryCSV(machines), nil
}

// uncovered is a machine without a fresh node, or a node without a machine.
type uncovered struct {
	State    string    `json:"state"` // "missing" or "unknown"
	Machine  string    `json:"machine"`
	Model    string    `json:"model"`
	Site     string    `json:"site"`
	Node     string    `json:"node"`
	LastOKAt time.Time `json:"last_ok_at"`
}

func inventoryCoverageCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "coverage",
		Short: "Machines that do not attest, and nodes that nobody lists",
		Long: `Coverage prints the machines of the inventory that no node stands for that
attested within --fresh (missing), and the nodes that no machine of it stands for
(unknown), disabled ones left out. --site keeps the machines of one site; nodes
have no site, so none are unknown then. How many machines are covered is said
beside the list, and in the JSON.`,
		Example: `  zonebroker inventory coverage
  zonebroker inventory coverage --site berlin --fresh 24h --all -o csv`,
		Args: cobra.NoArgs,
	}
	server, output := serverFlag(cmd), listOutputFlag(cmd)
	list := newPageFlags(cmd, "machines and nodes")
	list.addTime(cmd, "fresh", "attested since then is covered: 1h ago, or RFC 3339 (default: 1h)")
	list.add(cmd, "site", "only machines of this site")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := newAdminClient(*server)
		if err != nil {
			return err
		}
		var p api.Coverage
		fetch := func(query url.Values) (page[uncovered], error) {
			p = api.Coverage{}
			err := c.get(cmd.Context(), "/v1/inventory/coverage", query, &p)
			query.Set("fresh", p.Since.UTC().Format(time.RFC3339Nano)) // of all pages the same
			return page[uncovered]{items: uncoveredOf(p), next: p.NextCursor, asOf: p.AsOf, whole: func(all []uncovered) any {
				p.Missing, p.Unknown = rowsOf(all, "missing"), rowsOf(all, "unknown")
				return p
			}}, err
		}
		err = pager[uncovered]{cmd, list, fetch}.print(*output, "STATE MACHINE MODEL SITE NODE LAST-OK", func(u uncovered) []string {
			return []string{u.State, u.Machine, u.Model, u.Site, u.Node, ago(u.LastOKAt)}
		})
		if err == nil && *output != asJSON {
			fmt.Fprintf(cmd.ErrOrStderr(), "%d of %d machines attested since %s\n", p.Fresh, p.Machines, stamp(p.Since))
		}
		return err
	}
	return cmd
}

func uncoveredOf(p api.Coverage) []uncovered {
	var out []uncovered
	for _, r := range p.Missing {
		out = append(out, uncovered{"missing", r.Machine, r.Model, r.Site, r.Node, r.LastOKAt})
	}
	for _, r := range p.Unknown {
		out = append(out, uncovered{"unknown", r.Machine, r.Model, r.Site, r.Node, r.LastOKAt})
	}
	return out
}

func rowsOf(all []uncovered, state string) []api.CoverageRow {
	out := []api.CoverageRow{}
	for _, u := range all {
		if u.State == state {
			out = append(out, api.CoverageRow{Machine: u.Machine, Model: u.Model, Site: u.Site, Node: u.Node, LastOKAt: u.LastOKAt})
		}
	}
	return out
}
