package enrich

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/azure"
	"github.com/zonebroker/zonebroker/verifier/strictjson"
)

const azureMetadata = "169.254.169.254"

// azureHosts are the resource managers of Azure's clouds, by the name that the
// operator gives.
var azureHosts = map[string]string{
	"public": "management.azure.com", "usgov": "management.usgovcloudapi.net", "china": "management.chinacloudapi.cn",
}

// AzureConfig says how Azure Resource Manager is asked about machines.
type AzureConfig struct {
	Manager Endpoint
	Cloud   string // public, usgov or china; "" for public
	// Token is a file (0600) with an access token for Resource Manager that something
	// else keeps fresh. "" takes those of the managed identity of the machine that the
	// broker runs on. It needs the role Reader on the subscriptions of the documents.
	Token    string
	Metadata string           // replaces the address of the metadata service, as host:port
	Now      func() time.Time // nil for the clock of the machine
}

// Azure asks Azure what the machine of an attested document is: its resource,
// tenant, state and tags, none of which the document says.
type Azure struct {
	calls  *caller
	tokens *bearer
	host   string
}

// NewAzure makes one. Error: a cloud that is none.
func NewAzure(c AzureConfig) (*Azure, error) {
	if c.Cloud == "" {
		c.Cloud = "public"
	}
	host, ok := azureHosts[c.Cloud]
	if !ok {
		return nil, fmt.Errorf("%.40q is none of Azure's clouds: public, usgov, china", c.Cloud)
	}
	query := url.Values{"api-version": {"2018-02-01"}, "resource": {"https://" + host + "/"}}
	return &Azure{calls: newCaller(c.Manager), host: host, tokens: newBearer(c.Token, c.Now, Endpoint{Address: c.Metadata, Timeout: c.Manager.Timeout}, request{
		method: http.MethodGet, host: azureMetadata, path: "/metadata/identity/oauth2/token", query: query.Encode(),
		header: http.Header{"Metadata": {"true"}},
	})}, nil
}

// Name returns "azure.vms".
func (*Azure) Name() string { return "azure.vms" }

// Format returns the format that it is about.
func (*Azure) Format() string { return verifier.FormatAzureIMDS }

// Essential returns false: the document proves something alone.
func (*Azure) Essential() bool { return false }

// azureVM is the part, in the order of its names.
type azureVM struct {
	Location string            `json:"location"`
	Power    string            `json:"power_state"`
	Resource string            `json:"resource_id"`
	Tags     map[string]string `json:"tags"`
	Tenant   string            `json:"tenant_id"`
	VM       string            `json:"vm_id"`
}

// graphQuery finds the one machine of a vmId, which is a GUID and so cannot end the
// string that it stands in.
const graphQuery = "resources | where type =~ 'microsoft.compute/virtualmachines' and properties.vmId =~ '%s'" +
	" | project id, location, tags, tenantId, vmId = tostring(properties.vmId)," +
	" power = tostring(properties.extended.instanceView.powerState.code) | limit 2"

// Enrich asks Resource Graph for the machine in its subscription, and returns what
// Azure says as part azure.PartVM. That there is no such machine is an answer too.
func (a *Azure) Enrich(ctx context.Context, item verifier.Item, _ [32]byte) (map[string][]byte, error) {
	named, err := azure.ReadClaimedVM(item.Document)
	if err != nil {
		return nil, err
	}
	token, err := a.tokens.get(ctx)
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(map[string]any{
		"subscriptions": []string{named.Subscription}, "query": fmt.Sprintf(graphQuery, named.VM),
		"options": map[string]string{"resultFormat": "objectArray"},
	})
	if err != nil {
		return nil, err
	}
	header := authorized(token)
	header.Set("Content-Type", "application/json")
	got, err := a.calls.send(ctx, request{
		method: http.MethodPost, host: a.host, path: "/providers/Microsoft.ResourceGraph/resources", query: "api-version=2022-10-01",
		header: header, body: string(body),
	})
	if err != nil {
		return nil, err
	}
	out, err := readGraph(got)
	if err != nil {
		return nil, err
	}
	part, err := json.Marshal(out)
	return map[string][]byte{azure.PartVM: part}, err
}

func readGraph(got answer) (azureVM, error) {
	if err := got.is(http.StatusOK, "application/json"); err != nil {
		return azureVM{}, fmt.Errorf("resource graph: %w", err)
	}
	var in struct {
		Data []struct {
			ID       string            `json:"id"`
			Location string            `json:"location"`
			Tags     map[string]string `json:"tags"`
			Tenant   string            `json:"tenantId"`
			VM       string            `json:"vmId"`
			Power    string            `json:"power"`
		} `json:"data"`
	}
	err := strictjson.Unmarshal(got.body, &in)
	switch {
	case err != nil || in.Data == nil:
		return azureVM{}, errors.New("resource graph: not the answer to a query")
	case len(in.Data) > 1:
		return azureVM{}, errors.New("resource graph: two machines of one vmId")
	case len(in.Data) == 0:
		return azureVM{Power: "not_found", Tags: map[string]string{}}, nil
	}
	vm := in.Data[0]
	if vm.Tags == nil {
		vm.Tags = map[string]string{}
	}
	power := strings.TrimPrefix(strings.ToLower(vm.Power), "powerstate/")
	return azureVM{vm.Location, power, vm.ID, vm.Tags, vm.Tenant, vm.VM}, nil
}
