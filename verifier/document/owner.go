package document

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Owner is an account, project, tenant, cluster or key that can be admitted.
type Owner struct{ Kind, Value string }

// Kinds of owners.
const (
	OwnerAWSAccount        = "aws.account"        // twelve digits
	OwnerNitroImage        = "nitro.image"        // PCR 0 of an enclave, hex
	OwnerNitroSigner       = "nitro.signer"       // PCR 8 of an enclave, hex
	OwnerNitroInstance     = "nitro.instance"     // i-… of the parent instance
	OwnerGCPProject        = "gcp.project"        // project id
	OwnerAzureSubscription = "azure.subscription" // GUID, lower case
	OwnerAzureTenant       = "azure.tenant"       // GUID, lower case
	OwnerAzureVM           = "azure.vm"           // vmId, lower case: for documents that name no subscription
	OwnerSNPChip           = "snp.chip"           // CHIP_ID, hex
	OwnerSNPIDKey          = "snp.id_key"         // digest of the key that signed the ID block, hex
	OwnerTDXConfig         = "tdx.mrconfigid"     // hex
	OwnerTDXImage          = "tdx.mrtd"           // hex
	OwnerK8sCluster        = "k8s.cluster"        // issuer
	OwnerCCAInstance       = "cca.instance"       // platform instance id, hex
	OwnerCCARealm          = "cca.realm"          // realm initial measurement, hex
	OwnerEARIssuer         = "ear.verifier"       // name of the configured verifier
	OwnerX509CA            = "x509.ca"            // SHA-256 of the root's DER, hex
)

// ownerForm is how a verified document writes the value of a kind: what is written
// otherwise admits nobody, in silence.
type ownerForm struct {
	form *regexp.Regexp
	says string
}

var (
	digest384 = ownerForm{regexp.MustCompile(`^[0-9a-f]{96}$`), "96 lower-case hex digits"}
	guid      = ownerForm{regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`), "a GUID in lower case"}
	name      = ownerForm{regexp.MustCompile(`^[\x21-\x7e]{1,255}$`), "up to 255 visible characters of ASCII"}
)

// ownerForms has a row for each of the constants above.
var ownerForms = map[string]ownerForm{
	OwnerAWSAccount:        {regexp.MustCompile(`^[0-9]{12}$`), "twelve digits"},
	OwnerNitroImage:        digest384,
	OwnerNitroSigner:       digest384,
	OwnerNitroInstance:     {regexp.MustCompile(`^i-[0-9a-f]{8,17}$`), "an instance id, i-…"},
	OwnerGCPProject:        {regexp.MustCompile(`^[a-z][a-z0-9.:-]{1,62}$`), "the id of a project, not its number or name"},
	OwnerAzureSubscription: guid,
	OwnerAzureTenant:       guid,
	OwnerAzureVM:           guid,
	OwnerSNPChip:           {regexp.MustCompile(`^([0-9a-f]{128}|[0-9a-f]{16})$`), "128 lower-case hex digits, 16 of Turin"},
	OwnerSNPIDKey:          digest384,
	OwnerTDXConfig:         digest384,
	OwnerTDXImage:          digest384,
	OwnerK8sCluster:        name,
	OwnerCCAInstance:       {regexp.MustCompile(`^[0-9a-f]{66}$`), "66 lower-case hex digits"},
	OwnerCCARealm:          {regexp.MustCompile(`^([0-9a-f]{64}|[0-9a-f]{96}|[0-9a-f]{128})$`), "64, 96 or 128 lower-case hex digits"},
	OwnerEARIssuer:         name,
	OwnerX509CA:            {regexp.MustCompile(`^[0-9a-f]{64}$`), "64 lower-case hex digits"},
}

// OwnerKinds lists what can be admitted by its owner, in alphabetical order.
func OwnerKinds() []string { return slices.Sorted(maps.Keys(ownerForms)) }

// ParseOwner reads KIND=VALUE as operators and zones write it. The value has to
// have the form in which documents of that kind say it.
func ParseOwner(s string) (Owner, error) {
	kind, value, cut := strings.Cut(s, "=")
	want, known := ownerForms[kind]
	switch {
	case !cut || !known:
		return Owner{}, fmt.Errorf("an owner is KIND=VALUE, such as gcp.project=my-project; kinds are %s", strings.Join(OwnerKinds(), ", "))
	case !want.form.MatchString(value):
		return Owner{}, fmt.Errorf("the value of %s has to be %s", kind, want.says)
	case strings.Trim(value, "0-") == "":
		return Owner{}, fmt.Errorf("zeros are the %s of nobody: no document is admitted by them", kind)
	}
	return Owner{kind, value}, nil
}

// Hash returns what an admission of the owner is found by.
func (o Owner) Hash() [32]byte { return hash("zonebroker-owner-v1", o.Kind, o.Value) }
