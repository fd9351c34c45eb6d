package main

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/cmd/internal/terminal"
)

// byEvents are learnt by the events that they have to hold instead of by their
// value: PCR 9 has every file that GRUB read, PCR 11 grows with each boot phase.
// ofOneMachine are not learnt: PCR 10 grows with every file that is run, PCR 15
// has the machine id.
var (
	byEvents     = []int{9, 11}
	ofOneMachine = []int{10, 15}
)

func newReferenceCmd() *cobra.Command {
	return group("reference", "Reference sets: what a good boot looks like",
		"Reference turns an accepted boot of a node, or the files that a machine measured,\ninto a document that zones can ask for.",
		"  zonebroker reference learn --node abcdefghijklmnopqrstuvwxyz -o zones/debian-12-6.1.yaml", referenceLearnCmd(), referenceFilesCmd())
}

// referenceOptions of reference learn.
type referenceOptions struct {
	node, boot, name, approvedBy, file string
	force                              bool
}

func referenceLearnCmd() *cobra.Command {
	var o referenceOptions
	cmd := &cobra.Command{
		Use:   "learn --node NODE -o FILE",
		Short: "Write the reference set of an accepted boot",
		Long: `Learn writes the PCR values of an accepted attestation of a node (its last, or
that of --boot) as a ReferenceSet document, with the events of PCR 9 and 11
instead of their values, and without PCR 10 and 15, which differ from machine to
machine. It learns what was there, not whether that was good: read the file,
take out what varies, and let somebody else approve it.`,
		Example: `  zonebroker reference learn --node abcdefghijklmnopqrstuvwxyz -o zones/debian-12-6.1.yaml
  zonebroker reference learn --node abcdefghijklmnopqrstuvwxyz --boot 0192f0c1-2345-7abc-8def-0123456789ab --name debian-12-6.1 -o -`,
		Args: cobra.NoArgs,
	}
	server := serverFlag(cmd)
	f := cmd.Flags()
	f.StringVar(&o.node, "node", "", "node to learn from")
	f.StringVar(&o.boot, "boot", "", "attestation to learn from (default: the last accepted one)")
	f.StringVar(&o.name, "name", "", "name of the set (default: that of the file without its ending)")
	f.StringVar(&o.approvedBy, "approved-by", "", "who approved it, for the document")
	f.StringVarP(&o.file, "output", "o", "", "file to write, - for standard output")
	f.BoolVar(&o.force, "force", false, "overwrite the file")
	_ = cmd.MarkFlagRequired("node")
	_ = cmd.MarkFlagRequired("output")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := o.complete(); err != nil {
			return err
		}
		c, err := newAdminClient(*server)
		if err != nil {
			return err
		}
		return o.learn(cmd, c)
	}
	return cmd
}

var nameForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$`)

func (o *referenceOptions) complete() error {
	if o.name == "" && o.file != "-" {
		base := filepath.Base(o.file)
		o.name = base[:len(base)-len(filepath.Ext(base))]
	}
	if !nameForm.MatchString(o.name) {
		return usageError{"--name: want lower-case letters, digits, dots and dashes"}
	}
	if _, err := os.Lstat(o.file); o.file != "-" && err == nil && !o.force {
		return usageError{o.file + " exists; --force overwrites it"}
	}
	return nil
}

func (o *referenceOptions) learn(cmd *cobra.Command, c *adminClient) error {
	query := url.Values{}
	if o.boot != "" {
		query.Set("attestation", o.boot)
	}
	var m api.ReferenceMaterial
	if err := c.get(cmd.Context(), "/v1/nodes/"+url.PathEscape(o.node)+"/reference", query, &m); err != nil {
		return err
	}
	text, err := o.document(m)
	if err != nil {
		return err
	}
	if o.file == "-" {
		_, err := cmd.OutOrStdout().Write(text)
		return err
	}
	if err := writeDocument(o.file, text, o.force); err != nil {
		return err
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "wrote %s from attestation %s; read it before a zone names it\n", o.file, terminal.Plain(m.AttestationID))
	return nil
}

// referenceDocument is a ReferenceSet of wire.md, in the order of that page.
type referenceDocument struct {
	APIVersion string           `yaml:"apiVersion"`
	Kind       string           `yaml:"kind"`
	Name       string           `yaml:"name"`
	Bank       string           `yaml:"bank"`
	PCRs       map[int][]string `yaml:"pcrs,omitempty"`
	Events     map[int][]string `yaml:"events,omitempty"`
	Closed     []int            `yaml:"closed,omitempty,flow"`
	Provenance struct {
		LearntFrom string `yaml:"learnt_from"`
		Boot       string `yaml:"boot"`
		ApprovedBy string `yaml:"approved_by,omitempty"`
	} `yaml:"provenance"`
}

func (o *referenceOptions) document(m api.ReferenceMaterial) ([]byte, error) {
	d := referenceDocument{APIVersion: "zonebroker/v1", Kind: "ReferenceSet", Name: o.name, Bank: "sha256", PCRs: map[int][]string{}, Events: map[int][]string{}}
	d.Provenance.LearntFrom, d.Provenance.Boot, d.Provenance.ApprovedBy = m.Node, m.AttestationID, o.approvedBy
	for _, pcr := range byEvents {
		if digests := m.Events[strconv.Itoa(pcr)]; len(digests) > 0 {
			d.Events[pcr], d.Closed = unique(digests), append(d.Closed, pcr)
		}
	}
	for key, value := range m.PCRs {
		pcr, err := strconv.Atoi(key)
		if err != nil || pcr < 0 || pcr > 23 {
			return nil, fmt.Errorf("the broker named a PCR that does not exist")
		}
		if _, ok := d.Events[pcr]; !ok && !slices.Contains(ofOneMachine, pcr) {
			d.PCRs[pcr] = []string{value}
		}
	}
	for _, lists := range []map[int][]string{d.PCRs, d.Events} {
		for _, values := range lists {
			for _, v := range values {
				if raw, err := hex.DecodeString(v); err != nil || len(raw) != 32 {
					return nil, fmt.Errorf("the broker sent a value that is no SHA-256 digest")
				}
			}
		}
	}
	if len(d.PCRs) == 0 {
		return nil, fmt.Errorf("the attestation has no PCR values")
	}
	var out bytes.Buffer
	e := yaml.NewEncoder(&out)
	e.SetIndent(2)
	if err := errors.Join(e.Encode(d), e.Close()); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// unique keeps the order of the log and drops repeats: a set needs each once.
func unique(values []string) []string {
	seen := map[string]bool{}
	var out []string
	for _, v := range values {
		if !seen[v] {
			seen[v] = true
			out = append(out, v)
		}
	}
	return out
}

// writeDocument writes beside the file and renames, so that a broker that
// reloads meanwhile never reads half of it.
func writeDocument(path string, text []byte, force bool) (err error) {
	if !force {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if errors.Is(err, fs.ErrExist) {
			return usageError{path + " exists; --force overwrites it"}
		}
		if err != nil {
			return err
		}
		_, err = f.Write(text)
		return errors.Join(err, f.Close())
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".reference-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	_, werr := f.Write(text)
	if err := errors.Join(werr, f.Chmod(0o644), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
