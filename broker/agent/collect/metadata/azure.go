package metadata

import (
	"context"
	"net/http"
	"net/url"
)

// azureHeader has to stand in each question, so that no web page can make a
// browser on the host ask.
var azureHeader = map[string]string{"Metadata": "true"}

const azureVersion = "2021-12-13"

func (s *Service) probeAzure(ctx context.Context) error {
	_, err := s.GetAzure(ctx, "/metadata/instance/compute/vmId", url.Values{"api-version": {azureVersion}, "format": {"text"}}, maxSmall)
	return err
}

// GetAzure asks Azure's service.
func (s *Service) GetAzure(ctx context.Context, path string, query url.Values, limit int) ([]byte, error) {
	a, err := s.do(ctx, Request{Path: path, Query: query, Limit: limit, Header: azureHeader})
	return a.body, err
}

// PostAzure sends JSON to a service of the host that stands at the same address.
func (s *Service) PostAzure(ctx context.Context, path string, body []byte, limit int) ([]byte, error) {
	a, err := s.do(ctx, Request{
		Method: http.MethodPost, Path: path, Body: body, Limit: limit,
		Header: map[string]string{"Metadata": "true", "Content-Type": "application/json"},
	})
	return a.body, err
}
