package ec2

import "time"

// Sign signs a request of any service.
func Sign(method, region, service string, date time.Time, headers map[string]string, body, secret string) string {
	return request{method: method, region: region, service: service, date: date, headers: headers, body: body}.sign(secret)
}
