package ec2

import (
	"encoding/json"
	"regexp"
	"strings"
	"time"

	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/strictjson"
)

// Forms of what AWS names.
var (
	accountID    = regexp.MustCompile(`^[0-9]{12}$`)
	instanceID   = regexp.MustCompile(`^i-[0-9a-f]{8,17}$`)
	imageID      = regexp.MustCompile(`^ami-[0-9a-f]{8,17}$`)
	word         = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)
	localAddress = regexp.MustCompile(`^[0-9A-Fa-f.:]{2,45}$`)
)

// identity is the content of an identity document.
type identity struct {
	account, region, zone, instance, image string
	kind, arch, address                    string
	pending                                time.Time
	marketplace, billing                   []string // product codes
}

// pendingForm is how AWS writes times.
const pendingForm = "2006-01-02T15:04:05Z"

// readDocument reads the signed JSON. Members that it does not know are passed
// over, as AWS adds some over the years; what it reads has to be there in its one
// form. Error: ec2.document.
func readDocument(raw []byte) (identity, error) {
	members, err := strictjson.Object(raw)
	if err != nil {
		return identity{}, reason.Wrap(reason.EC2Document, "the signed content is not strict JSON: "+err.Error(), err)
	}
	var d identity
	var pending string
	for _, m := range []struct {
		name string
		into *string
		form *regexp.Regexp
	}{
		{"accountId", &d.account, accountID},
		{"region", &d.region, regionName},
		{"availabilityZone", &d.zone, word},
		{"instanceId", &d.instance, instanceID},
		{"imageId", &d.image, imageID},
		{"instanceType", &d.kind, word},
		{"architecture", &d.arch, word},
		{"privateIp", &d.address, localAddress}, // null in a subnet that has IPv6 alone
		{"pendingTime", &pending, nil},
	} {
		text, ok := strictjson.Text(members[m.name])
		if m.form == localAddress && strictjson.IsNull(members[m.name]) {
			continue
		}
		if !ok || m.form != nil && !m.form.MatchString(text) {
			return identity{}, reason.Newf(reason.EC2Document, "%s is missing or not of its form", m.name)
		}
		*m.into = text
	}
	if d.pending, err = time.Parse(pendingForm, pending); err != nil {
		return identity{}, reason.Wrap(reason.EC2Document, "pendingTime is not a time", err)
	}
	for _, name := range []string{"marketplaceProductCodes", "billingProducts", "devpayProductCodes"} {
		codes, ok := texts(members[name])
		if !ok {
			return identity{}, reason.Newf(reason.EC2Document, "%s is neither null nor a list of codes", name)
		}
		if name == "billingProducts" { // what AWS itself licenses: Windows, RHEL
			d.billing = codes
		} else {
			d.marketplace = append(d.marketplace, codes...)
		}
	}
	return d, nil
}

// texts reads null or a list of strings.
func texts(raw json.RawMessage) ([]string, bool) {
	if strictjson.IsNull(raw) {
		return nil, true
	}
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) != nil {
		return nil, false
	}
	var out []string
	for _, member := range list {
		text, ok := strictjson.Text(member)
		if !ok || !word.MatchString(text) {
			return nil, false
		}
		out = append(out, text)
	}
	return out, true
}

// isZoneOf: us-east-1a, or a local or wavelength zone as us-west-2-lax-1a.
func isZoneOf(zone, region string) bool {
	rest, ok := strings.CutPrefix(zone, region)
	if !ok || rest == "" {
		return false
	}
	if len(rest) == 1 {
		return rest[0] >= 'a' && rest[0] <= 'z'
	}
	return localZone.MatchString(rest)
}

// localZone is what stands behind the region in the names of local zones and
// wavelength zones (us-east-1-wl1-bos-wlz-1; since 2024 eu-west-3-cmn-wlz-1a).
var localZone = regexp.MustCompile(`^(-[a-z]{2,8}(-wlz)?-[0-9]{1,2}[a-z]|-wl[0-9]{1,2}-[a-z]{2,8}-wlz-[0-9]{1,2})$`)
