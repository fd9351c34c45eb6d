// Package tsm collects the reports of a confidential guest's processor: SEV-SNP,
// TDX and Arm CCA. It asks the kernel's common interface (configfs-tsm, Linux 6.7)
// and, for SEV-SNP on older kernels, /dev/sev-guest.
package tsm

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/zonebroker/zonebroker/broker/agent/collect"
)

// reports is where the kernel shows the interface
// (Documentation/ABI/testing/configfs-tsm-report).
const reports = "/sys/kernel/config/tsm/report"

// Providers: the drivers behind the interface.
const (
	providerSNP = "sev_guest"
	providerTDX = "tdx_guest"
	providerCCA = "arm_cca_guest"
)

const (
	maxOutblob   = 32 << 10 // TSM_REPORT_OUTBLOB_MAX
	maxAuxblob   = 64 << 10
	maxAttribute = 4 << 10
	reportTries  = 3
)

// Tree is the folder of the interface: the kernel's, or a stand-in for tests. A
// folder that is made in it has attributes at once and can be removed with them.
type Tree interface {
	Mkdir(name string) error
	Remove(name string) error
	Read(name string, limit int) ([]byte, error)
	Write(name string, data []byte) error
}

// Kernel is the kernel's tree.
type Kernel struct {
	// Root is put before the path; "" is the running system.
	Root string
}

func (k Kernel) path(name string) string { return filepath.Join(collect.File(k.Root, reports), name) }

// Mkdir makes a report.
func (k Kernel) Mkdir(name string) error { return os.Mkdir(k.path(name), 0o700) }

// Remove removes a report.
func (k Kernel) Remove(name string) error { return os.Remove(k.path(name)) }

// Read reads an attribute.
func (k Kernel) Read(name string, limit int) ([]byte, error) {
	return collect.Read(k.path(name), limit)
}

// Write writes an attribute at once.
func (k Kernel) Write(name string, data []byte) error {
	file, err := os.OpenFile(k.path(name), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	return errors.Join(err, file.Close())
}

// entry is a report of our own.
type entry struct {
	tree   Tree
	name   string
	writes uint64 // the generation that our own writes make
}

// open makes a report. The name is of no meaning; a random one stops nobody of the
// host, but keeps two agents apart.
func open(tree Tree) (*entry, error) {
	var random [8]byte
	if _, err := rand.Read(random[:]); err != nil {
		return nil, err
	}
	e := &entry{tree: tree, name: "zonebroker-" + hex.EncodeToString(random[:])}
	if err := tree.Mkdir(e.name); err != nil {
		return nil, unusable(err)
	}
	generation, err := e.generation()
	if err != nil {
		return nil, errors.Join(unusable(err), e.close())
	}
	e.writes = generation
	return e, nil
}

func unusable(err error) error {
	e := &collect.Error{What: "ask the kernel for a report", Why: err.Error(), Err: err}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		e.Why = "the kernel has no " + reports
		e.Fix = "in a confidential guest load its driver (modprobe sev-guest or tdx-guest) and mount -t configfs none /sys/kernel/config; Linux 6.7 or newer"
	case collect.IsDenied(err):
		e.Why = "this user may not make reports"
		e.Fix = "run as root"
	}
	return e
}

func (e *entry) close() error { return e.tree.Remove(e.name) }

func (e *entry) read(attribute string, limit int) ([]byte, error) {
	return e.tree.Read(filepath.Join(e.name, attribute), limit)
}

func (e *entry) generation() (uint64, error) {
	text, err := e.read("generation", maxAttribute)
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
}

// provider names the driver.
func provider(tree Tree) (name string, err error) {
	e, err := open(tree)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, e.close()) }()
	text, err := e.read("provider", maxAttribute)
	return strings.TrimSpace(string(text)), err
}

// report is what the kernel made of 64 bytes.
type report struct {
	provider string
	out, aux []byte // aux is nil where the driver has none
}

// ask makes a report of data. Whoever may write the folder could change the data
// under our hands, so the count of writes has to be that of our own afterwards;
// the broker would find it too, and say only that the report is not its own.
func ask(ctx context.Context, tree Tree, data [64]byte) (report, error) {
	for range reportTries {
		if err := ctx.Err(); err != nil {
			return report{}, err
		}
		r, same, err := askOnce(tree, data)
		if err != nil || same {
			return r, err
		}
	}
	return report{}, &collect.Error{What: "ask the kernel for a report", Why: fmt.Sprintf("somebody wrote into each of %d reports", reportTries), Fix: "see what else runs as root on this host"}
}

func askOnce(tree Tree, data [64]byte) (r report, same bool, err error) {
	e, err := open(tree)
	if err != nil {
		return r, false, err
	}
	defer func() { err = errors.Join(err, e.close()) }()
	if err := tree.Write(filepath.Join(e.name, "inblob"), data[:]); err != nil {
		return r, false, unusable(err)
	}
	e.writes++
	name, err := e.read("provider", maxAttribute)
	if err != nil {
		return r, false, unusable(err)
	}
	r.provider = strings.TrimSpace(string(name))
	if r.out, err = e.read("outblob", maxOutblob); err != nil {
		return r, false, unusable(err)
	}
	// Not all drivers have one, and a host may give no certificates.
	if r.aux, err = e.read("auxblob", maxAuxblob); err != nil {
		r.aux = nil
	}
	generation, err := e.generation()
	if err != nil {
		return r, false, unusable(err)
	}
	return r, generation == e.writes, nil
}
