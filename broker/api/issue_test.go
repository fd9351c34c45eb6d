package api_test

import (
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

func TestIssuanceRequestsValidate(t *testing.T) {
	long := strings.Repeat("a", api.MaxAudience)
	tests := []struct {
		name string
		req  interface{ Validate() error }
		code reason.Code
	}{
		{"svid", api.SVIDRequest{Workload: "web", CSR: of(200)}, ""},
		{"svid_every_cap", api.SVIDRequest{Workload: strings.Repeat("w", 128), CSR: of(api.MaxCSR)}, ""},
		{"svid_without_workload", api.SVIDRequest{CSR: of(200)}, reason.RequestMalformed},
		{"svid_without_csr", api.SVIDRequest{Workload: "web"}, reason.RequestMalformed},
		{"svid_csr_too_large", api.SVIDRequest{Workload: "web", CSR: of(api.MaxCSR + 1)}, reason.RequestTooLarge},
		{"T49_workload_with_a_slash", api.SVIDRequest{Workload: "web/../db", CSR: of(200)}, reason.RequestMalformed},
		{"T49_workload_with_an_escape", api.SVIDRequest{Workload: "web%2fdb", CSR: of(200)}, reason.RequestMalformed},
		{"workload_too_long", api.SVIDRequest{Workload: strings.Repeat("w", 129), CSR: of(200)}, reason.RequestMalformed},
		{"jwt_of_the_node", api.JWTRequest{Audience: "https://db.test"}, ""},
		{"jwt_of_a_workload", api.JWTRequest{Audience: long, Workload: "web"}, ""},
		{"jwt_without_audience", api.JWTRequest{Workload: "web"}, reason.RequestMalformed},
		{"jwt_audience_too_long", api.JWTRequest{Audience: long + "a"}, reason.RequestTooLarge},
		{"jwt_audience_with_a_space", api.JWTRequest{Audience: "a b"}, reason.RequestMalformed},
		{"jwt_audience_with_a_line_break", api.JWTRequest{Audience: "a\n"}, reason.RequestMalformed},
		{"jwt_audience_not_ascii", api.JWTRequest{Audience: "bücher"}, reason.RequestMalformed},
		{"jwt_workload_with_a_slash", api.JWTRequest{Audience: "a", Workload: "a/b"}, reason.RequestMalformed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := reason.Of(tt.req.Validate()); got != tt.code {
				t.Errorf("code %q, want %q", got, tt.code)
			}
		})
	}
}
