// Package roster is the explicit table of what an agent can collect.
package roster

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/zonebroker/zonebroker/broker/agent/collect"
	"github.com/zonebroker/zonebroker/broker/agent/collect/azure"
	"github.com/zonebroker/zonebroker/broker/agent/collect/cluster"
	"github.com/zonebroker/zonebroker/broker/agent/collect/ec2"
	"github.com/zonebroker/zonebroker/broker/agent/collect/gce"
	"github.com/zonebroker/zonebroker/broker/agent/collect/given"
	"github.com/zonebroker/zonebroker/broker/agent/collect/metadata"
	"github.com/zonebroker/zonebroker/broker/agent/collect/nsm"
	tpm2collect "github.com/zonebroker/zonebroker/broker/agent/collect/tpm2"
	"github.com/zonebroker/zonebroker/broker/agent/collect/tsm"
	"github.com/zonebroker/zonebroker/verifier"
)

// Config says where sources are that this host cannot find by itself. The zero
// value is complete.
type Config struct {
	// Metadata replaces the link-local address of the metadata services, for a test
	// server.
	Metadata string
	// Root is put before the paths of devices and of the kernel's files; "" is the
	// running system. For tests.
	Root string
	// TokenFile is the projected token of Kubernetes; "" is given.DefaultTokenFile.
	TokenFile string
	// TokenRequest is the API server of the pod's cluster, host:port, that is asked for
	// a token for each challenge instead; "" reads TokenFile. Account is the folder of
	// the pod's own service account; "" is cluster.DefaultAccount.
	TokenRequest, Account string
	// Certificate and Key are PEM files of an existing PKI.
	Certificate, Key string
	// EAR, MAA and GPU say who gives results of other verifiers.
	EAR, MAA, GPU given.Source
	// MSIResource is the audience of a managed identity's token; "" is
	// azure.DefaultResource.
	MSIResource string
	// JoinToken says that there is one. Secret.
	JoinToken string

	// Device is the TPM as in tpm2collect.Config, for a NitroTPM.
	Device string
	// TPM returns the TPM of the host, which stays its owner's; nil where there is
	// none.
	TPM func(context.Context) (*tpm2collect.TPM, error)
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

// Roster holds a collector for each format, the strongest first.
type Roster struct{ collectors []collect.Collector }

// New checks the configuration and asks nobody.
func New(cfg Config) (*Roster, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.TokenFile == "" {
		cfg.TokenFile = given.DefaultTokenFile
	}
	if (cfg.Certificate == "") != (cfg.Key == "") {
		return nil, &collect.Error{What: "choose the certificate", Why: "certificate and key go together", Fix: "name both: --certificate FILE --key FILE"}
	}
	service, err := metadata.New(metadata.Config{URL: cfg.Metadata, Root: cfg.Root, Now: cfg.Now})
	if err != nil {
		return nil, err
	}
	pod, err := podToken(cfg)
	if err != nil {
		return nil, err
	}
	tpm, tree := lent{cfg.TPM}, tsm.Kernel{Root: cfg.Root}
	return &Roster{[]collect.Collector{
		// Class A.
		nsm.Enclave{Module: nsm.Driver{Root: cfg.Root}, Root: cfg.Root},
		tsm.SNP{Tree: tree, Guest: tsm.Device{Root: cfg.Root}},
		tsm.TDX{Tree: tree, Root: cfg.Root},
		tsm.CCA{Tree: tree},
		azure.CVM{TPM: tpm, Metadata: service},
		gce.AKCert{TPM: tpm},
		nsm.Instance{Module: nsm.TPM{Device: cfg.Device}, Vendor: func(ctx context.Context) (string, error) { return tpm2collect.Vendor(ctx, cfg.Device) }},
		// Class B.
		gce.Confidential{Root: cfg.Root},
		gce.Identity{Metadata: service},
		azure.IMDS{Metadata: service},
		given.MAA(cfg.MAA),
		ec2.STS{Metadata: service, Now: cfg.Now},
		given.EAR(cfg.EAR),
		given.GPU{Source: cfg.GPU},
		given.X509PoP{Certificate: cfg.Certificate, Key: cfg.Key},
		// Class C.
		ec2.IID{Metadata: service},
		azure.MSI{Metadata: service, Resource: cfg.MSIResource},
		pod,
		given.JoinToken{Token: cfg.JoinToken},
	}}, nil
}

// podToken chooses who gives the token of a pod.
func podToken(cfg Config) (collect.Collector, error) {
	if cfg.TokenRequest == "" {
		return given.PSAT{Path: cfg.TokenFile, Root: cfg.Root}, nil
	}
	asked := cluster.PSAT{Server: cfg.TokenRequest, Account: cfg.Account, Root: cfg.Root}
	return asked, asked.Check()
}

// Formats lists every format that there is a collector for, the strongest first.
func (r *Roster) Formats() []string {
	var out []string
	for _, c := range r.collectors {
		out = append(out, c.Format())
	}
	return out
}

// Find returns the collector of a format, nil where there is none.
func (r *Roster) Find(format string) collect.Collector {
	for _, c := range r.collectors {
		if c.Format() == format {
			return c
		}
	}
	return nil
}

// Detect says for each format whether this host can make it.
func (r *Roster) Detect(ctx context.Context) []collect.Finding {
	var out []collect.Finding
	for _, c := range r.collectors {
		out = append(out, c.Detect(ctx))
	}
	return out
}

// Best returns the format that names this host most firmly without a TPM of its
// owner: of the highest class, and the first of it.
func (r *Roster) Best(ctx context.Context) (collect.Finding, bool) {
	var able []collect.Finding
	for _, c := range r.collectors {
		if NamesNode(c.Format()) && !Quoted(c.Format()) {
			if f := c.Detect(ctx); f.Able {
				able = append(able, f)
			}
		}
	}
	if len(able) == 0 {
		return collect.Finding{}, false
	}
	return slices.MinFunc(able, func(a, b collect.Finding) int { return strings.Compare(a.Class, b.Class) }), true
}

// Beside returns the collectors of the wanted formats that this host can serve,
// the strongest first, without the one that names the node.
func (r *Roster) Beside(ctx context.Context, wanted []string, primary string) []collect.Collector {
	var out []collect.Collector
	for _, c := range r.collectors {
		format := c.Format()
		// A key that a cloud vouches for says something only where it quotes.
		if format == primary || Quoted(format) || format == verifier.FormatJoinToken || !slices.Contains(wanted, format) {
			continue
		}
		if c.Detect(ctx).Able {
			out = append(out, c)
		}
	}
	return out
}

// Quoted says that a document vouches for a key of the TPM, which has to quote.
func Quoted(format string) bool {
	return format == verifier.FormatGCEAKCert || format == verifier.FormatAzureCVM
}

// NamesNode says that a node can be named by the format: a GPU is a part of one.
func NamesNode(format string) bool { return format != verifier.FormatNVIDIA }

// lent is a TPM that somebody else opened.
type lent struct {
	open func(context.Context) (*tpm2collect.TPM, error)
}

var errNoTPM = errors.New("there is no TPM")

func (l lent) tpm(ctx context.Context) (*tpm2collect.TPM, error) {
	if l.open == nil {
		return nil, errNoTPM
	}
	t, err := l.open(ctx)
	if err != nil {
		return nil, fault(err)
	}
	if t == nil {
		return nil, errNoTPM
	}
	return t, nil
}

func (l lent) AKCertificate(ctx context.Context) ([]byte, error) {
	t, err := l.tpm(ctx)
	if err != nil {
		return nil, err
	}
	certificate, err := t.AKCertificate(ctx)
	return certificate, fault(err)
}

func (l lent) ReadNV(ctx context.Context, index uint32, limit int) ([]byte, error) {
	t, err := l.tpm(ctx)
	if err != nil {
		return nil, err
	}
	data, err := t.ReadNV(ctx, index, limit)
	return data, fault(err)
}

func (l lent) WriteNV(ctx context.Context, index uint32, data []byte) error {
	t, err := l.tpm(ctx)
	if err != nil {
		return err
	}
	return fault(t.WriteNV(ctx, index, data))
}

// fault keeps what a person can do about a TPM.
func fault(err error) error {
	if e, ok := errors.AsType[*tpm2collect.Error](err); ok {
		return &collect.Error{What: e.What, Why: e.Why, Fix: e.Fix, Err: err}
	}
	return err
}
