package ec2

import "strings"

// partition is a part of AWS with accounts and addresses of its own; arn stands
// in the names of what is in it.
type partition struct {
	arn     string
	dns     string
	regions string // separated by blanks
}

// partitions are the regions with their STS (AWS General Reference, "AWS Security
// Token Service endpoints and quotas"; botocore's endpoints.json has the same
// suffixes). A region that is not here is none: what an agent calls a region
// never becomes part of an address.
var partitions = []partition{
	{"aws", "amazonaws.com", "af-south-1 ap-east-1 ap-east-2 ap-northeast-1 ap-northeast-2 ap-northeast-3 ap-south-1 ap-south-2 " +
		"ap-southeast-1 ap-southeast-2 ap-southeast-3 ap-southeast-4 ap-southeast-5 ap-southeast-6 ap-southeast-7 ca-central-1 ca-west-1 " +
		"eu-central-1 eu-central-2 eu-north-1 eu-south-1 eu-south-2 eu-west-1 eu-west-2 eu-west-3 il-central-1 me-central-1 me-south-1 " +
		"mx-central-1 sa-east-1 us-east-1 us-east-2 us-west-1 us-west-2"},
	{"aws-cn", "amazonaws.com.cn", "cn-north-1 cn-northwest-1"},
	{"aws-us-gov", "amazonaws.com", "us-gov-east-1 us-gov-west-1"},
	{"aws-eusc", "amazonaws.eu", "eusc-de-east-1"},
	{"aws-iso", "c2s.ic.gov", "us-iso-east-1 us-iso-west-1"},
	{"aws-iso-b", "sc2s.sgov.gov", "us-isob-east-1"},
}

// Endpoint returns the host of a service (sts, ec2) in a region, and the partition
// as it stands in ARNs; ok is false for a region that is not known.
func Endpoint(service, region string) (host, arn string, ok bool) {
	for _, p := range partitions {
		for known := range strings.SplitSeq(p.regions, " ") {
			if known == region {
				return service + "." + region + "." + p.dns, p.arn, true
			}
		}
	}
	return "", "", false
}
