package api

import (
	_ "embed"
	"slices"
)

//go:embed openapi.yaml
var openAPI []byte

// OpenAPI returns the contract of all routes, an OpenAPI 3.1 document in YAML.
// The slice is the caller's.
func OpenAPI() []byte { return slices.Clone(openAPI) }
