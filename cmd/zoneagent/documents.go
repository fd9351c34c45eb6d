package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/zonebroker/zonebroker/broker/agent"
	"github.com/zonebroker/zonebroker/broker/agent/collect/azure"
	"github.com/zonebroker/zonebroker/broker/agent/collect/cluster"
	"github.com/zonebroker/zonebroker/broker/agent/collect/given"
	"github.com/zonebroker/zonebroker/broker/agent/collect/roster"
	"github.com/zonebroker/zonebroker/broker/api"
)

// documentFlags say where documents come from that this host cannot find by
// itself.
type documentFlags struct {
	metadata         string
	tokenFile        string
	tokenRequest     string
	account          string
	certificate, key string
	ear, maa, gpu    string
	msiResource      string
}

func (f *documentFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.metadata, "metadata", "", "address of the metadata service, for a test server (default: the platform's own)")
	flags.StringVar(&f.tokenFile, "token-file", given.DefaultTokenFile, "projected service-account token of Kubernetes")
	flags.StringVar(&f.tokenRequest, "token-request", "", "API server of the pod's cluster, HOST:PORT, to ask for a token for each challenge (default: read --token-file)")
	flags.StringVar(&f.account, "service-account", cluster.DefaultAccount, "folder of the pod's own service account, for --token-request")
	flags.StringVar(&f.certificate, "certificate", "", "certificate of an existing PKI, PEM, with its issuers")
	flags.StringVar(&f.key, "key", "", "key of --certificate, PEM")
	flags.StringVar(&f.ear, "ear", "", `program that prints the result of another verifier for a nonce: "exec:PROGRAM … {nonce}"`)
	flags.StringVar(&f.maa, "maa", "", "program that prints a token of Microsoft Azure Attestation, as --ear")
	flags.StringVar(&f.gpu, "gpu", "", "program that prints a token or reports of NVIDIA's devices, as --ear")
	flags.StringVar(&f.msiResource, "msi-resource", azure.DefaultResource, "audience of the token of Azure's managed identity")
}

func (f *documentFlags) config() (roster.Config, error) {
	cfg := roster.Config{
		Metadata: f.metadata, TokenFile: f.tokenFile, TokenRequest: f.tokenRequest, Account: f.account,
		Certificate: f.certificate, Key: f.key, MSIResource: f.msiResource,
	}
	for _, s := range []struct {
		flag, text string
		into       *given.Source
	}{{"--ear", f.ear, &cfg.EAR}, {"--maa", f.maa, &cfg.MAA}, {"--gpu", f.gpu, &cfg.GPU}} {
		source, err := given.ParseSource(s.text)
		if err != nil {
			return cfg, usageError{s.flag + ": " + err.Error()}
		}
		*s.into = source
	}
	return cfg, nil
}

// namingFormats are what --format takes.
func namingFormats() []string {
	out := []string{agent.AutoFormat, api.FormatTPM2}
	r, err := roster.New(roster.Config{})
	if err != nil {
		return out
	}
	return append(out, slices.DeleteFunc(r.Formats(), func(f string) bool { return !roster.NamesNode(f) })...)
}

func checkFormat(format string) error {
	if !slices.Contains(namingFormats(), format) {
		return usageError{"--format: want one of " + strings.Join(namingFormats(), ", ")}
	}
	return nil
}
