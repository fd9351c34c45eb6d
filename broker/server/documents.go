package server

import (
	"bytes"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"

	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.yaml.in/yaml/v3"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// contractJSON turns the YAML contract into JSON once, at start.
func contractJSON() ([]byte, error) {
	var doc map[string]any
	if err := yaml.Unmarshal(api.OpenAPI(), &doc); err != nil {
		return nil, fmt.Errorf("read contract: %w", err)
	}
	return json.MarshalIndent(doc, "", " ")
}

func (s *Server) contract(*request) (answer, error) {
	return answer{raw: s.openAPI, typ: "application/json"}, nil
}

func (s *Server) contractYAML(*request) (answer, error) {
	return answer{raw: api.OpenAPI(), typ: "application/yaml"}, nil
}

var problemTemplate = template.Must(template.New("problem").Parse(`<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{{.Info.Code}} - Zonebroker</title>
<h1><code>{{.Info.Code}}</code></h1>
<p>{{.Info.Meaning}}.</p>
<dl><dt>Class</dt><dd>{{.Info.Class}}</dd><dt>Status</dt><dd>{{.Info.HTTP}}</dd>
{{with .Remedy}}<dt>What to do</dt><dd>{{.}}</dd>{{end}}</dl>
</html>
`))

// problemPage is where the type member of a problem document leads.
func (s *Server) problemPage(r *request) (answer, error) {
	code := reason.Code(chi.URLParam(r.Request, "code"))
	if !reason.Known(code) {
		return answer{}, reason.New(reason.RequestNotFound, "no such code")
	}
	var page bytes.Buffer
	err := problemTemplate.Execute(&page, struct {
		Info   reason.Info
		Remedy string
	}{reason.Lookup(code), api.Remedy(code)})
	return answer{
		raw: page.Bytes(), typ: "text/html; charset=utf-8",
		header: map[string]string{"Content-Security-Policy": "default-src 'none'"},
	}, err
}

// metricsText answers with what a scrape would get.
func (s *Server) metricsText(r *request) (answer, error) {
	page := &page{header: http.Header{}}
	promhttp.HandlerFor(s.cfg.Registry, promhttp.HandlerOpts{DisableCompression: true}).ServeHTTP(page, r.Request)
	return answer{status: page.status, raw: page.Bytes(), typ: page.header.Get("Content-Type")}, nil
}

// page keeps what a handler of somebody else writes.
type page struct {
	bytes.Buffer
	header http.Header
	status int
}

func (p *page) Header() http.Header    { return p.header }
func (p *page) WriteHeader(status int) { p.status = status }
