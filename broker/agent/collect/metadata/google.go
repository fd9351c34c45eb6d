package metadata

import (
	"context"
	"net/url"

	"github.com/zonebroker/zonebroker/broker/agent/collect"
)

const (
	googleHost   = "metadata.google.internal"
	flavorHeader = "Metadata-Flavor"
	flavor       = "Google"
	maxSmall     = 4 << 10
)

func (s *Service) probeGoogle(ctx context.Context) error {
	_, err := s.GetGoogle(ctx, "/computeMetadata/v1/instance/id", nil, maxSmall)
	return err
}

// GetGoogle asks Google's service. Its answers carry the header of the question;
// one without comes from something else.
func (s *Service) GetGoogle(ctx context.Context, path string, query url.Values, limit int) ([]byte, error) {
	a, err := s.do(ctx, Request{Path: path, Query: query, Limit: limit, Host: googleHost, Header: map[string]string{flavorHeader: flavor}})
	if err != nil {
		return nil, err
	}
	if a.header.Get(flavorHeader) != flavor {
		return nil, &collect.Error{What: "ask the metadata service", Why: "the answer lacks the header " + flavorHeader + ": " + flavor + ", so it is not Google's"}
	}
	return a.body, nil
}
