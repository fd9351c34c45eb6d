package enrich

import (
	"net/http"
	"time"
)

// SignGET signs a GET as POSTs are signed here, and returns the Authorization.
func SignGET(host, query string, header http.Header, id, secret, service, region string, now time.Time) (string, error) {
	r := request{method: http.MethodGet, host: host, path: "/", query: query, header: header}
	err := awsKeys{ID: id, Secret: secret}.sign(&r, service, region, now)
	return r.header.Get("Authorization"), err
}

// Keys are credentials, to see how they print.
func Keys(id, secret string) any { return awsKeys{ID: id, Secret: secret} }
