package tsm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/zonebroker/zonebroker/broker/agent/collect"
	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/document"
)

// eventLog is where ACPI shows the measurements of the firmware of a TD.
const eventLog = "/sys/firmware/acpi/tables/data/CCEL"

const maxEventLog = 1 << 20

// names says what a provider stands for, for people.
var names = map[string]string{providerSNP: "SEV-SNP", providerTDX: "TDX", providerCCA: "Arm CCA"}

func detect(tree Tree, format, want string) collect.Finding {
	got, err := provider(tree)
	if err != nil {
		return collect.Missing(format, "A", err)
	}
	if got != want {
		return collect.No(format, "A", fmt.Sprintf("this is no guest of %s: the kernel's provider is %s", names[want], got), "")
	}
	return collect.Yes(format, "A", names[want]+" report of the kernel ("+want+")")
}

// askFor asks and insists on the driver: the formats are told apart by nothing else.
func askFor(ctx context.Context, tree Tree, want string, data [64]byte) (report, error) {
	r, err := ask(ctx, tree, data)
	if err == nil && r.provider != want {
		err = &collect.Error{What: "ask the kernel for a report", Why: fmt.Sprintf("it is one of %s, not of %s", r.provider, want)}
	}
	return r, err
}

// SNP collects SEV-SNP reports.
type SNP struct {
	Tree Tree
	// Guest is /dev/sev-guest, for kernels without the common interface.
	Guest Guest
}

// Format is snp.
func (SNP) Format() string { return verifier.FormatSNP }

// Detect asks the kernel for its provider.
func (c SNP) Detect(context.Context) collect.Finding {
	f := detect(c.Tree, c.Format(), providerSNP)
	if !f.Able && c.Guest.Present() {
		return collect.Yes(c.Format(), "A", "SEV-SNP report of "+guestDevice)
	}
	return f
}

// Collect makes a report and adds the certificate that the host gives along.
func (c SNP) Collect(ctx context.Context, bound collect.Bound) (verifier.Item, error) {
	data := document.ReportData(bound.Value, bound.AK)
	r, err := askFor(ctx, c.Tree, providerSNP, data)
	if errors.Is(err, fs.ErrNotExist) && c.Guest.Present() {
		r.out, r.aux, err = c.Guest.Report(data)
	}
	if err != nil {
		return verifier.Item{}, err
	}
	return verifier.Item{Format: c.Format(), Document: r.out, Parts: endorsement(r.out, r.aux)}, nil
}

// TDX collects quotes of a trust domain.
type TDX struct {
	Tree Tree
	// Root is put before the path of the event log; "" is the running system.
	Root string
}

// Format is tdx.
func (TDX) Format() string { return verifier.FormatTDX }

// Detect asks the kernel for its provider.
func (c TDX) Detect(context.Context) collect.Finding {
	return detect(c.Tree, c.Format(), providerTDX)
}

// Collect makes a quote and adds the event log that explains its registers.
func (c TDX) Collect(ctx context.Context, bound collect.Bound) (verifier.Item, error) {
	r, err := askFor(ctx, c.Tree, providerTDX, document.ReportData(bound.Value, bound.AK))
	if err != nil {
		return verifier.Item{}, err
	}
	item := verifier.Item{Format: c.Format(), Document: r.out}
	log, err := collect.Read(collect.File(c.Root, eventLog), maxEventLog)
	if errors.Is(err, fs.ErrNotExist) {
		return item, nil // firmware without one; the registers then stand unexplained
	}
	if err != nil {
		return verifier.Item{}, &collect.Error{What: "read the event log of the TD", Why: err.Error(), Fix: "run as root", Err: err}
	}
	item.Parts = map[string][]byte{"event_log": log}
	return item, nil
}

// CCA collects tokens of an Arm realm.
type CCA struct{ Tree Tree }

// Format is cca.
func (CCA) Format() string { return verifier.FormatCCA }

// Detect asks the kernel for its provider.
func (c CCA) Detect(context.Context) collect.Finding {
	return detect(c.Tree, c.Format(), providerCCA)
}

// Collect makes a token.
func (c CCA) Collect(ctx context.Context, bound collect.Bound) (verifier.Item, error) {
	r, err := askFor(ctx, c.Tree, providerCCA, document.ReportData(bound.Value, nil))
	if err != nil {
		return verifier.Item{}, err
	}
	return verifier.Item{Format: c.Format(), Document: r.out}, nil
}
