package api_test

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// described are the Go types that stand in the contract under their own name.
var described = []any{
	api.ChallengeRequest{},
	api.Enrol{},
	api.Challenge{},
	api.Credential{},
	api.AttestRequest{},
	api.TPM2Evidence{},
	api.Certify{},
	api.AttestResponse{},
	api.Workload{},
	api.LogPosition{},
	api.Problem{},
	api.Reason{},
	api.AdmitRequest{},
	api.Admission{},
	api.ApproveRequest{},
	api.DisableRequest{},
	api.Approval{},
	api.TokenRequest{},
	api.Token{},
	api.SVIDRequest{},
	api.SVIDResponse{},
	api.JWTRequest{},
	api.JWTResponse{},
	api.OperatorRequest{},
	api.RevokeRequest{},
	api.Operator{},
	api.OperatorList{},
	api.PendingNode{},
	api.PendingList{},
	api.Node{},
	api.NodePage{},
	api.Entry{},
	api.DriftChange{},
	api.HistoryPage{},
	api.Explanation{},
	api.Mismatch{},
	api.EventDifference{},
	api.DriftPage{},
	api.Drift{},
	api.TimelinePage{},
	api.TimelineEntry{},
	api.TimelineSVID{},
	api.AsOf{},
	api.Interval{},
	api.MemberPage{},
	api.Member{},
	api.NodeAt{},
	api.IntervalPage{},
	api.UnseenPage{},
	api.Unseen{},
	api.PopulationPage{},
	api.Population{},
	api.SVIDPage{},
	api.SVID{},
	api.SVIDTrail{},
	api.EvidencePart{},
	api.DetectionPage{},
	api.Detection{},
	api.DetectionSummary{},
	api.KindDetection{},
	api.BaselinePage{},
	api.Deviation{},
	api.FactDifference{},
	api.RateList{},
	api.Rate{},
	api.CrossCheck{},
	api.CountDifference{},
	api.InventoryRequest{},
	api.Inventory{},
	api.Coverage{},
	api.CoverageRow{},
	api.Retention{},
	api.RetentionGroup{},
	api.MinIndex{},
	api.DroppedWeek{},
	api.RetentionRequest{},
	api.SweepRequest{},
	api.SweepReport{},
	api.SweptLeaf{},
	api.HoldRequest{},
	api.Hold{},
	api.HoldList{},
	api.EraseRequest{},
	api.ErasureProof{},
	api.ProvedRecord{},
	api.ProvedEntry{},
	api.ErasedRows{},
	api.Verification{},
	api.ReferenceMaterial{},
	api.EvidenceFile{},
	api.EvidenceMembers{},
	api.EvidenceContext{},
	api.EvidenceBaseline{},
	api.EvidenceTPM{},
	api.RecordedVerdict{},
	api.Health{},
	api.HealthCheck{},
	api.Status{},
}

func contract(t *testing.T) *openapi3.T {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(api.OpenAPI())
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return doc
}

// TestContractDescribesTheGoTypes: a member that only one side knows is a
// request that one side refuses.
func TestContractDescribesTheGoTypes(t *testing.T) {
	doc := contract(t)
	for _, v := range described {
		typ := reflect.TypeOf(v)
		ref, ok := doc.Components.Schemas[typ.Name()]
		if !ok {
			t.Errorf("%s is not in the contract", typ.Name())
			continue
		}
		var members, required []string
		for i := range typ.NumField() {
			name, option, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
			members = append(members, name)
			if option != "omitempty" {
				required = append(required, name)
			}
			if prop := ref.Value.Properties[name]; prop != nil {
				checkType(t, typ.Name()+"."+name, typ.Field(i).Type, prop.Value)
			}
		}
		slices.Sort(members)
		slices.Sort(required)
		if diff := cmp.Diff(members, slices.Sorted(maps.Keys(ref.Value.Properties))); diff != "" {
			t.Errorf("%s members (-go +contract):\n%s", typ.Name(), diff)
		}
		if diff := cmp.Diff(required, slices.Sorted(slices.Values(ref.Value.Required))); diff != "" {
			t.Errorf("%s required (-go +contract):\n%s", typ.Name(), diff)
		}
		if extra := ref.Value.AdditionalProperties.Has; extra == nil || *extra {
			t.Errorf("%s allows members that the strict decoder refuses", typ.Name())
		}
	}
}

func checkType(t *testing.T, at string, typ reflect.Type, s *openapi3.Schema) {
	t.Helper()
	if typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	want := map[reflect.Kind]string{
		reflect.String: "string", reflect.Bool: "boolean", reflect.Int: "integer", reflect.Int64: "integer",
		reflect.Struct: "object", reflect.Map: "object", reflect.Slice: "array",
	}[typ.Kind()]
	switch typ.String() {
	case "time.Time", "api.Bytes":
		want = "string"
	case "json.RawMessage":
		want = "object"
	}
	if !s.Type.Is(want) {
		t.Errorf("%s is %v in the contract, %s in Go", at, s.Type.Slice(), want)
	}
}

// TestContractNamesRegisteredCodes: every refusal that the contract promises
// exists, and its status is among the responses of the route.
func TestContractNamesRegisteredCodes(t *testing.T) {
	doc := contract(t)
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			raw, err := json.Marshal(op.Extensions["x-codes"])
			if err != nil {
				t.Fatal(err)
			}
			var codes []string
			if err := json.Unmarshal(raw, &codes); err != nil || len(codes) == 0 {
				t.Errorf("%s %s: x-codes: %v", method, path, err)
			}
			for _, c := range codes {
				info := reason.Lookup(reason.Code(c))
				if !reason.Known(reason.Code(c)) || info.Class == reason.Event {
					t.Errorf("%s %s: %q is no code of a refusal", method, path, c)
				}
				if op.Responses.Value(strconv.Itoa(info.HTTP)) == nil {
					t.Errorf("%s %s: %s has status %d, which the route does not have", method, path, c, info.HTTP)
				}
			}
		}
	}
}

// TestContractCapsAreThoseOfTheCode: the numbers of wire.md stand twice.
func TestContractCapsAreThoseOfTheCode(t *testing.T) {
	var doc struct {
		Components struct {
			Schemas map[string]struct {
				Properties map[string]struct {
					MaxLength int `yaml:"maxLength"`
				}
			}
		}
	}
	if err := yaml.Unmarshal(api.OpenAPI(), &doc); err != nil {
		t.Fatal(err)
	}
	characters := func(bytes int) int { return (bytes*8 + 5) / 6 }
	tests := []struct {
		schema, member string
		want           int
	}{
		{"Enrol", "ek_public", characters(api.MaxPublic)},
		{"Enrol", "ak_public", characters(api.MaxPublic)},
		{"Enrol", "ek_certificate", characters(api.MaxEKCertificate)},
		{"AttestRequest", "token", api.MaxToken},
		{"AttestRequest", "spki", characters(api.MaxSPKI)},
		{"AttestRequest", "csr", characters(api.MaxCSR)},
		{"SVIDRequest", "csr", characters(api.MaxCSR)},
		{"JWTRequest", "audience", api.MaxAudience},
		{"OperatorRequest", "spki", characters(api.MaxSPKI)},
		{"TPM2Evidence", "ak_public", characters(api.MaxPublic)},
		{"TPM2Evidence", "quote", characters(api.MaxAttest)},
		{"TPM2Evidence", "signature", characters(api.MaxSignature)},
		{"TPM2Evidence", "event_log", characters(api.MaxEventLog)},
		{"TPM2Evidence", "ima_log", characters(api.MaxIMALog)},
		{"Certify", "attest", characters(api.MaxAttest)},
		{"Certify", "signature", characters(api.MaxSignature)},
	}
	for _, tt := range tests {
		if got := doc.Components.Schemas[tt.schema].Properties[tt.member].MaxLength; got != tt.want {
			t.Errorf("%s.%s: maxLength %d, want %d", tt.schema, tt.member, got, tt.want)
		}
	}
}
