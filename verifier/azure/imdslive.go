package azure

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"

	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/strictjson"
)

// PartVM is the part of azure.imds that the broker's enricher adds; what an agent
// sends under this name has to be thrown away.
const PartVM = "azure_vm"

const (
	// MaxLiveVM bounds what Azure said of a machine, in bytes.
	MaxLiveVM = 64 << 10
	// maxVMTags is Azure's own limit.
	maxVMTags = 50
)

// vmResource is the resource id of a virtual machine, alone or in a scale set.
var vmResource = regexp.MustCompile(`^/subscriptions/([0-9a-f-]{36})/resourcegroups/([^/]{1,90})/providers/microsoft\.compute/(?:virtualmachines/[^/]{1,80}|virtualmachinescalesets/[^/]{1,80}/virtualmachines/[^/]{1,80})$`)

// liveVM is what Azure Resource Manager said.
type liveVM struct {
	resource, group, location, tenant string
	tags                              []string // key=value
}

// Live adds what Azure says of the machine right now: JSON of the members
// location, power_state, resource_id, tags (an object of strings), tenant_id and
// vm_id, as the broker writes it from an answer of Azure Resource Manager. It is
// the broker's own and never an agent's. Errors: request.too_large;
// azure.resource, also for JSON of another form.
func (a Attested) Live(raw []byte) (Attested, error) {
	if len(raw) > MaxLiveVM {
		return Attested{}, reason.New(reason.RequestTooLarge, "what Azure says of the machine is longer than 64 KiB")
	}
	members, err := strictjson.Object(raw)
	if err != nil || len(members) != 6 {
		return Attested{}, reason.New(reason.AzureResource, "what Azure says of the machine is not strict JSON of six members")
	}
	text := func(name string) string {
		t, _ := strictjson.Text(members[name])
		return t
	}
	id := vmResource.FindStringSubmatch(strings.ToLower(text("resource_id")))
	switch {
	case id == nil || id[1] != a.subscription:
		return Attested{}, reason.New(reason.AzureResource, "the resource is no virtual machine of the document's subscription")
	case strings.ToLower(text("vm_id")) != a.vm:
		return Attested{}, reason.New(reason.AzureResource, "the resource is another virtual machine")
	case text("power_state") != "running":
		return Attested{}, reason.Newf(reason.AzureResource, "the virtual machine is %.40q, not running", text("power_state"))
	case !tokenGUID.MatchString(text("tenant_id")) || text("location") == "":
		return Attested{}, reason.New(reason.AzureResource, "tenant or location is missing")
	}
	var tags map[string]string
	if raw := members["tags"]; len(raw) == 0 || raw[0] != '{' || json.Unmarshal(raw, &tags) != nil || len(tags) > maxVMTags {
		return Attested{}, reason.New(reason.AzureResource, "the tags of the machine are not an object of at most 50 strings")
	}
	live := &liveVM{resource: id[0], group: id[2], location: text("location"), tenant: strings.ToLower(text("tenant_id"))}
	for key, value := range tags {
		live.tags = append(live.tags, key+"="+value)
	}
	slices.Sort(live.tags)
	a.live = live
	return a, nil
}

// ClaimedVM is what an attested document names, verified by nobody: for asking
// Azure about it. What Azure answers is compared with the verified document.
type ClaimedVM struct{ VM, Subscription string }

// ReadClaimedVM reads what an attested document names without verifying it.
// Errors: those of VerifyIMDS before the signature, and azure.document.
func ReadClaimedVM(raw []byte) (ClaimedVM, error) {
	claimed, err := parseIMDS(raw)
	if err != nil {
		return ClaimedVM{}, err
	}
	a, _, err := readIMDS(claimed.InsecureContent())
	if err != nil {
		return ClaimedVM{}, err
	}
	return ClaimedVM{a.vm, a.subscription}, nil
}

func (l *liveVM) tell(f *document.Facts) {
	f.Own(document.OwnerAzureTenant, l.tenant)
	f.Add("azure.imds.tenant", l.tenant)
	f.Add("azure.imds.resource_id", l.resource)
	f.Add("azure.imds.resource_group", l.group)
	f.Add("azure.imds.location", l.location)
	for _, tag := range l.tags {
		f.Add("azure.imds.tag", tag)
	}
	f.Confirm("azure.imds.live", "Azure names the machine as "+l.resource+", running")
}
