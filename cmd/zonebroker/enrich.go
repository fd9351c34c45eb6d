package main

import (
	"crypto/x509"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/zonebroker/zonebroker/broker"
	"github.com/zonebroker/zonebroker/broker/enrich"
)

// enrichConfig says which platforms are asked about documents; one that is absent
// is never asked. What a zone does without an answer is the zone's to say.
type enrichConfig struct {
	STS   *endpointConfig  `yaml:"sts"`
	EC2   *ec2EnrichConfig `yaml:"ec2"`
	GCE   *gceEnrichConfig `yaml:"gce"`
	Azure *azureConfig     `yaml:"azure"`
	// Clusters are API servers by the issuer of their tokens.
	Clusters map[string]clusterConfig `yaml:"clusters"`
}

// endpointConfig replaces a platform's address, for a private endpoint. Trusted: who
// answers there speaks for the platform.
type endpointConfig struct {
	Address string `yaml:"address"` // host:port; empty for the platform's own
	// CA is a file of CA certificates (PEM) in place of the system's. Trusted.
	CA      string   `yaml:"ca"`
	Timeout duration `yaml:"timeout"` // of one call, by default 3s
}

// ec2EnrichConfig: see enrich.InstancesConfig.
type ec2EnrichConfig struct {
	endpointConfig `yaml:",inline"`
	// Credentials is a file of AWS credentials (JSON, 0600); empty takes the role of
	// the instance that the broker runs on. Secret.
	Credentials string `yaml:"credentials"`
	Role        string `yaml:"role"` // assumed in the account of each document
}

// gceEnrichConfig: see enrich.GCEConfig.
type gceEnrichConfig struct {
	endpointConfig `yaml:",inline"`
	// Token is a file with an access token (0600); empty takes the instance's. Secret.
	Token string `yaml:"token"`
}

// azureConfig: see enrich.AzureConfig.
type azureConfig struct {
	endpointConfig `yaml:",inline"`
	Cloud          string `yaml:"cloud"` // public, usgov or china
	// Token is a file with an access token (0600); empty takes the machine's. Secret.
	Token string `yaml:"token"`
}

// clusterConfig: see enrich.Cluster.
type clusterConfig struct {
	endpointConfig `yaml:",inline"`
	// Token is a file with a token that may create TokenReviews. Secret.
	Token string `yaml:"token"`
}

func (c *endpointConfig) endpoint(dir string) (enrich.Endpoint, error) {
	out := enrich.Endpoint{Address: c.Address, Timeout: time.Duration(c.Timeout)}
	if c.CA == "" {
		return out, nil
	}
	raw, err := readCapped(within(dir, c.CA), 1<<20)
	if err != nil {
		return out, err
	}
	out.RootCAs = x509.NewCertPool()
	if !out.RootCAs.AppendCertsFromPEM(raw) {
		return out, fmt.Errorf("%s holds no certificate", c.CA)
	}
	return out, nil
}

// file resolves a path that may be absent.
func file(dir, path string) string {
	if path == "" {
		return ""
	}
	return within(dir, path)
}

// enrichers makes those that are configured.
func (c *enrichConfig) enrichers(dir string) ([]broker.Enricher, error) {
	var out []broker.Enricher
	var sts enrich.Endpoint // where roles are assumed too
	if c.STS != nil {
		var err error
		if sts, err = c.STS.endpoint(dir); err != nil {
			return nil, fmt.Errorf("enrich.sts: %w", err)
		}
		out = append(out, enrich.NewSTS(sts, now))
	}
	if c.EC2 != nil {
		e, err := c.EC2.endpoint(dir)
		if err != nil {
			return nil, fmt.Errorf("enrich.ec2: %w", err)
		}
		i, err := enrich.NewInstances(enrich.InstancesConfig{EC2: e, STS: sts, Credentials: file(dir, c.EC2.Credentials), Role: c.EC2.Role, Now: now})
		if err != nil {
			return nil, fmt.Errorf("enrich.ec2: %w", err)
		}
		out = append(out, i)
	}
	if c.GCE != nil {
		e, err := c.GCE.endpoint(dir)
		if err != nil {
			return nil, fmt.Errorf("enrich.gce: %w", err)
		}
		out = append(out, enrich.NewGCE(enrich.GCEConfig{Compute: e, Token: file(dir, c.GCE.Token), Now: now}))
	}
	if c.Azure != nil {
		e, err := c.Azure.endpoint(dir)
		if err != nil {
			return nil, fmt.Errorf("enrich.azure: %w", err)
		}
		a, err := enrich.NewAzure(enrich.AzureConfig{Manager: e, Cloud: c.Azure.Cloud, Token: file(dir, c.Azure.Token), Now: now})
		if err != nil {
			return nil, fmt.Errorf("enrich.azure: %w", err)
		}
		out = append(out, a)
	}
	return c.clusters(dir, out)
}

func (c *enrichConfig) clusters(dir string, out []broker.Enricher) ([]broker.Enricher, error) {
	if len(c.Clusters) == 0 {
		return out, nil
	}
	clusters := map[string]enrich.Cluster{}
	for _, issuer := range slices.Sorted(maps.Keys(c.Clusters)) {
		k := c.Clusters[issuer]
		clusters[issuer] = enrich.Cluster{Address: k.Address, CA: file(dir, k.CA), Token: file(dir, k.Token), Timeout: time.Duration(k.Timeout)}
	}
	reviews, err := enrich.NewTokenReviews(clusters)
	if err != nil {
		return nil, fmt.Errorf("enrich.clusters: %w", err)
	}
	return append(out, reviews), nil
}
