package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/zonebroker/zonebroker/verifier/ima"
)

// filesOptions of reference files.
type filesOptions struct {
	referenceOptions
	under string
}

func referenceFilesCmd() *cobra.Command {
	var o filesOptions
	cmd := &cobra.Command{
		Use:   "files LIST -o FILE",
		Short: "Write the file set of a measurement list",
		Long: `Files writes the files of a measurement list of the kernel (IMA, the binary form)
as a FileSet document: digest and path of each. Take the list from a machine that
you trust, after everything ran that should run. It learns what was there, not
whether that was good: read the file, and let somebody else approve it. Violations
and digests that no file set may hold (SHA-1) are left out and counted.`,
		Example: `  zonebroker reference files /sys/kernel/security/ima/binary_runtime_measurements -o zones/debian-12-files.yaml
  zonebroker reference files ./binary_runtime_measurements --under /usr/bin --name debian-12-bin -o -`,
		Args: cobra.ExactArgs(1),
	}
	f := cmd.Flags()
	f.StringVar(&o.name, "name", "", "name of the set (default: that of the file without its ending)")
	f.StringVar(&o.under, "under", "", "only files below this folder, for a list with more than one set holds")
	f.StringVar(&o.approvedBy, "approved-by", "", "who approved it, for the document")
	f.StringVarP(&o.file, "output", "o", "", "file to write, - for standard output")
	f.BoolVar(&o.force, "force", false, "overwrite the file")
	_ = cmd.MarkFlagRequired("output")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := o.complete(); err != nil {
			return err
		}
		if o.under != "" && (!path.IsAbs(o.under) || path.Clean(o.under) != o.under) {
			return usageError{"--under: want an absolute folder without . or .. or double slashes"}
		}
		return o.write(cmd, args[0])
	}
	return cmd
}

func (o *filesOptions) write(cmd *cobra.Command, name string) error {
	raw, err := readList(name)
	if err != nil {
		return err
	}
	list, err := ima.Parse(raw)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	d, left, err := o.fileSet(list)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	var out bytes.Buffer
	e := yaml.NewEncoder(&out)
	e.SetIndent(2)
	if err := errors.Join(e.Encode(d), e.Close()); err != nil {
		return err
	}
	if o.file == "-" {
		if _, err := cmd.OutOrStdout().Write(out.Bytes()); err != nil {
			return err
		}
	} else if err := writeDocument(o.file, out.Bytes(), o.force); err != nil {
		return err
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%d files and %d names of data of %d entries, %d left out; read them before a zone names the set\n",
		len(d.Digests), len(d.Buffers), list.Len(), left)
	return nil
}

// readList reads a file whose length the kernel does not tell.
func readList(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, ima.MaxList+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if len(raw) > ima.MaxList {
		return nil, fmt.Errorf("%s is larger than %d bytes", name, ima.MaxList)
	}
	return raw, nil
}

// fileSetDocument is a FileSet in the order of docs/evidence/ima.md.
type fileSetDocument struct {
	APIVersion string   `yaml:"apiVersion"`
	Kind       string   `yaml:"kind"`
	Name       string   `yaml:"name"`
	Digests    []string `yaml:"digests,omitempty"`
	Buffers    []string `yaml:"buffers,omitempty"`
	Provenance *struct {
		ApprovedBy string `yaml:"approved_by"`
	} `yaml:"provenance,omitempty"`
}

// fileSet collects what the list measured, by path. What the policy would not
// load is left out and counted.
func (o *filesOptions) fileSet(list ima.List) (fileSetDocument, int, error) {
	d := fileSetDocument{APIVersion: "zonebroker/v1", Kind: "FileSet", Name: o.name}
	type file struct{ path, digest string }
	seen := map[file]bool{}
	var files []file
	left := 0
	for entry, f := range list.Allowable() {
		switch {
		case o.under != "" && !strings.HasPrefix(entry.Path, o.under+"/"):
		case f == "" || entry.Offence != "":
			left++
		case entry.Buffer:
			if !slices.Contains(d.Buffers, f) {
				d.Buffers = append(d.Buffers, f)
			}
		case !seen[file{entry.Path, f}]:
			seen[file{entry.Path, f}] = true
			files = append(files, file{entry.Path, f})
		}
	}
	slices.SortFunc(files, func(a, b file) int { return strings.Compare(a.path+"\x00"+a.digest, b.path+"\x00"+b.digest) })
	for _, f := range files {
		d.Digests = append(d.Digests, f.digest)
	}
	if len(d.Digests) == 0 && len(d.Buffers) == 0 {
		return d, left, errors.New("no file that a file set may hold")
	}
	if o.approvedBy != "" {
		d.Provenance = &struct {
			ApprovedBy string `yaml:"approved_by"`
		}{o.approvedBy}
	}
	return d, left, nil
}
