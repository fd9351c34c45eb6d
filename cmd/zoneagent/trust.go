package main

import (
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/zonebroker/zonebroker/broker/client"
)

// brokerFlags say which broker and how to know it.
type brokerFlags struct {
	server, anchor, pin, bundle, trustDomain string
}

func (f *brokerFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.server, "server", os.Getenv("ZONEAGENT_SERVER"), "broker, https://host:port (environment: ZONEAGENT_SERVER)")
	cmd.Flags().StringVar(&f.anchor, "anchor", "", "file with the broker's trust anchor certificate (PEM)")
	cmd.Flags().StringVar(&f.pin, "pin", "", "pin of the trust anchor's key, sha256:HEX (environment: ZONEBROKER_PIN, where none of --anchor, --pin and --bundle is given)")
	cmd.Flags().StringVar(&f.bundle, "bundle", "", "file with a SPIFFE bundle of the broker's trust domain")
	cmd.Flags().StringVar(&f.trustDomain, "trust-domain", "", "trust domain that the broker must be of (default: the one it proves, then kept)")
}

// trust reads what was given; several of them are alternatives. A pin from the
// environment counts only alone: beside an anchor it would let another in.
func (f *brokerFlags) trust() (client.Trust, error) {
	var trust client.Trust
	pin, from := f.pin, "--pin"
	if f.pin == "" && f.anchor == "" && f.bundle == "" {
		pin, from = os.Getenv("ZONEBROKER_PIN"), "ZONEBROKER_PIN"
	}
	if pin != "" {
		t, err := client.Pin(pin)
		if err != nil {
			return trust, usageError{from + ": " + err.Error()}
		}
		trust = trust.And(t)
	}
	for _, from := range []struct {
		flag, path string
		parse      func([]byte) (client.Trust, error)
	}{{"--anchor", f.anchor, client.Anchor}, {"--bundle", f.bundle, client.Bundle}} {
		if from.path == "" {
			continue
		}
		text, err := readFile(from.path)
		if err != nil {
			return trust, usageError{from.flag + ": " + err.Error()}
		}
		t, err := from.parse(text)
		if err != nil {
			return trust, usageError{from.flag + " " + from.path + ": " + err.Error()}
		}
		trust = trust.And(t)
	}
	return trust, nil
}

// readFile reads at most a little more than the parsers accept.
func readFile(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, 2<<20))
}

func (f *brokerFlags) needServer() error {
	if f.server == "" {
		return usageError{"--server is missing: name the broker, such as --server https://broker.example.org:8443"}
	}
	if err := client.CheckServer(f.server); err != nil {
		return usageError{"--server: " + err.Error()}
	}
	return nil
}
