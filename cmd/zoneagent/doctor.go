package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/zonebroker/zonebroker/broker/agent"
	"github.com/zonebroker/zonebroker/broker/policy"
	"github.com/zonebroker/zonebroker/cmd/internal/terminal"
	"github.com/zonebroker/zonebroker/cmd/internal/zonefiles"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

type doctorFlags struct {
	broker    brokerFlags
	documents documentFlags
	tpm, ek   string
	policy    string
	output    string
	timeout   time.Duration
}

func doctorCommand() *cobra.Command {
	var f doctorFlags
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Say what this host can prove, and which zones that could earn",
		Long: `doctor looks at every kind of evidence that an agent can collect and says whether
this host has it, how firmly it binds (class A: nonce and key inside a report that
hardware signs; B: a document made for the challenge; C: a document that anybody
who has it can show), and what is missing otherwise.

With --policy it says which zones of a folder of zone documents that could earn,
and what only an attestation shows: measurements, admission, selectors. With
--server it asks the broker for challenges, which leave no trace there, and says
which kinds name a node in some zone and which are asked for beside it.

It makes no document, changes nothing on the host, and exits with 0 whatever it
finds.`,
		Example: `  zoneagent doctor
  zoneagent doctor --policy ./zones
  zoneagent doctor --server https://broker.example.org:8443 --anchor /etc/zoneagent/anchor.pem -o json`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	f.broker.register(cmd)
	f.documents.register(cmd)
	registerTPM(cmd, &f.tpm, &f.ek)
	cmd.Flags().StringVar(&f.policy, "policy", "", "folder of zone documents")
	registerOutput(cmd, &f.output)
	cmd.Flags().DurationVar(&f.timeout, "timeout", time.Minute, "give up after this time")
	return cmd
}

// diagnosis is the JSON of what a host can prove.
type diagnosis struct {
	// Automatic is what --format auto chooses on a host without a state; "" where
	// there is no evidence at all.
	Automatic string     `json:"automatic"`
	Evidence  []ability  `json:"evidence"`
	Server    string     `json:"server"` // "" where none was asked
	Zones     []prospect `json:"zones"`  // of --policy
}

type ability struct {
	Format string `json:"format"`
	Able   bool   `json:"able"`
	Class  string `json:"class"` // at best
	Why    string `json:"why"`
	Fix    string `json:"fix"`
	// Names and Beside are what the broker said: a zone takes nodes that this names,
	// or asks for it beside other evidence. null where it was not asked.
	Names  *bool `json:"names"`
	Beside *bool `json:"beside"`
}

type prospect struct {
	Zone     string   `json:"zone"`
	Tier     int      `json:"tier"`
	Possible bool     `json:"possible"`
	By       []string `json:"by"`      // formats that could name the node
	Missing  []string `json:"missing"` // why it is not possible
	Open     []string `json:"open"`    // what only an attestation shows
}

func (f *doctorFlags) run(cmd *cobra.Command) error {
	if err := checkOutput(f.output); err != nil {
		return err
	}
	if err := checkEK(f.ek); err != nil {
		return err
	}
	documents, err := f.documents.config()
	if err != nil {
		return err
	}
	set, err := f.zones()
	if err != nil {
		return err
	}
	cfg := agent.Config{Device: f.tpm, Documents: documents, UserAgent: "zoneagent/" + version(), TrustDomain: f.broker.trustDomain}
	if f.broker.server != "" {
		cfg.Server = f.broker.server
		if cfg.Trust, err = f.broker.trust(); err != nil {
			return err
		}
		if cfg.Trust.Empty() {
			return usageError{"give the broker's trust anchor with --anchor, --pin or --bundle, or leave --server out"}
		}
	}
	ctx, cancel := context.WithTimeoutCause(cmd.Context(), f.timeout, fmt.Errorf("not done within %s", f.timeout))
	defer cancel()
	checkup, err := agent.Examine(ctx, cfg)
	if err != nil {
		return err
	}
	return printDiagnosis(cmd.OutOrStdout(), f.output, diagnose(checkup, cfg.Server, set))
}

// zones reads the folder of --policy; nil where there is none.
func (f *doctorFlags) zones() (*policy.Set, error) {
	if f.policy == "" {
		return nil, nil
	}
	files, err := zonefiles.Read(f.policy)
	if err != nil {
		return nil, &agent.Fault{Kind: agent.FaultFile, What: "read the zones", Why: err.Error(), Fix: "name a folder of zone documents with --policy DIR"}
	}
	set, problems := policy.Load(files)
	if len(problems) > 0 {
		return nil, reason.Newf(reason.PolicyInvalid, "%s (%d problems; see zonebroker policy lint)", problems[0], len(problems))
	}
	return set, nil
}

func diagnose(c agent.Checkup, server string, set *policy.Set) diagnosis {
	d := diagnosis{Automatic: c.Automatic, Server: server, Evidence: []ability{}, Zones: []prospect{}}
	have := map[string]string{}
	for _, e := range c.Evidence {
		d.Evidence = append(d.Evidence, ability{e.Format, e.Able, e.Class, e.Why, e.Fix, e.Names, e.Beside})
		if e.Able {
			have[e.Format] = e.Class
		}
	}
	for _, r := range set.Reach(have) {
		d.Zones = append(d.Zones, prospect{r.Zone, r.Tier, len(r.Missing) == 0, list(r.By), list(r.Missing), list(r.Open)})
	}
	return d
}

// list is never null in JSON.
func list(texts []string) []string { return append([]string{}, texts...) }

func printDiagnosis(w io.Writer, output string, d diagnosis) error {
	if output == asJSON {
		return terminal.JSON(w, d)
	}
	var rows [][2]string
	for _, e := range d.Evidence {
		name := e.Format
		if e.Able {
			rows = append(rows, [2]string{name, "yes, class " + e.Class + ": " + e.Why + asked(e)})
			continue
		}
		text := "no: " + e.Why
		if e.Fix != "" {
			text += "; fix: " + e.Fix
		}
		rows = append(rows, [2]string{name, text})
	}
	if d.Automatic != "" {
		rows = append(rows, [2]string{"--format auto", d.Automatic})
	}
	for _, z := range d.Zones {
		text := "could be earned by " + strings.Join(z.By, " or ")
		if len(z.Open) > 0 {
			text += "; open: " + strings.Join(z.Open, ", ")
		}
		if !z.Possible {
			text = "not by this host: " + strings.Join(z.Missing, "; ")
		}
		rows = append(rows, [2]string{fmt.Sprintf("zone %s (tier %d)", z.Zone, z.Tier), text})
	}
	return terminal.Rows(w, rows)
}

// asked says what the broker makes of it.
func asked(e ability) string {
	switch {
	case e.Names == nil && e.Beside == nil:
		return ""
	case e.Names != nil && *e.Names && e.Beside != nil && *e.Beside:
		return "; zones of the broker take it as name and beside others"
	case e.Names != nil && *e.Names:
		return "; a zone of the broker takes it as name"
	case e.Beside != nil && *e.Beside:
		return "; a zone of the broker wants it beside others"
	}
	return "; no zone of the broker asks for it"
}
