package akcert

import (
	"crypto/x509"
	encoding_asn1 "encoding/asn1"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// oidGCEInstance is the extension in which Google writes the instance that a vTPM
// belongs to (go-tpm-tools, server/instance_info.go).
var oidGCEInstance = encoding_asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 1, 21}

// Instance names the machine that a certificate was issued for, in the words of
// its cloud. The zero value names none.
type Instance struct {
	Cloud         string // "gce" or "azure"
	Zone          string // GCE only, as the other members up to Name
	Project       string // project id
	ProjectNumber string // decimal
	ID            string // GCE: instance id, decimal; Azure: its name for the VM there
	Name          string // GCE only
}

// azureNames are the ends of the subject's common name in Azure's AK certificates
// (NV index 0x01C101D0 of trusted launch and confidential VMs); before them stands
// Azure's name for the VM, one label.
var azureNames = []string{".trustedvm.azure.windows.net", ".confidentialvm.azure.windows.net"}

// properties are the security properties of a GCE instance.
type properties struct {
	version    int64 // of Google's security patch level
	hasVersion bool
	production bool
}

// readInstance returns ok false where an extension is there that does not parse:
// a fact that one reader finds and another does not is none.
func readInstance(c *x509.Certificate) (Instance, properties, bool) {
	var out Instance
	var props properties
	found := false
	for _, ext := range c.Extensions {
		if !ext.Id.Equal(oidGCEInstance) {
			continue
		}
		if found { // crypto/x509 refuses duplicates; this does not rely on it
			return Instance{}, properties{}, false
		}
		var ok bool
		if out, props, ok = parseGCE(ext.Value); !ok {
			return Instance{}, properties{}, false
		}
		found = true
	}
	if found {
		return out, props, true
	}
	name := strings.ToLower(c.Subject.CommonName)
	for _, end := range azureNames {
		if id, ok := strings.CutSuffix(name, end); ok && id != "" && !strings.Contains(id, ".") {
			return Instance{Cloud: "azure", ID: id}, properties{}, true
		}
	}
	return Instance{}, properties{}, true
}

// parseGCE reads SEQUENCE { zone UTF8String, projectNumber INTEGER, projectId
// UTF8String, instanceId INTEGER, instanceName UTF8String, [0] securityProperties
// OPTIONAL }. The instance is named only where the properties say that the
// certificate is of production.
func parseGCE(der []byte) (Instance, properties, bool) {
	in := cryptobyte.String(der)
	var body, security cryptobyte.String
	var props properties
	var project, id uint64
	var hasProps bool
	out := Instance{Cloud: "gce"}
	ok := in.ReadASN1(&body, asn1.SEQUENCE) && in.Empty() &&
		readText(&body, &out.Zone) && body.ReadASN1Integer(&project) &&
		readText(&body, &out.Project) && body.ReadASN1Integer(&id) && readText(&body, &out.Name) &&
		body.ReadOptionalASN1(&security, &hasProps, asn1.Tag(0).ContextSpecific().Constructed()) && body.Empty()
	if !ok || hasProps && !props.read(security) {
		return Instance{}, properties{}, false
	}
	if !props.production {
		return Instance{}, properties{}, true
	}
	out.ProjectNumber, out.ID = strconv.FormatUint(project, 10), strconv.FormatUint(id, 10)
	return out, props, true
}

func readText(in *cryptobyte.String, out *string) bool {
	var text cryptobyte.String
	if !in.ReadASN1(&text, asn1.UTF8String) || !utf8.Valid(text) {
		return false
	}
	*out = string(text)
	return true
}

// Members of the security properties.
var (
	tagVersion    = asn1.Tag(0).ContextSpecific().Constructed()
	tagProduction = asn1.Tag(1).ContextSpecific().Constructed()
)

// read reads SEQUENCE { [0] securityVersion INTEGER OPTIONAL, [1] isProduction
// BOOLEAN OPTIONAL, … }; members that came later are passed over.
func (p *properties) read(der cryptobyte.String) bool {
	var body cryptobyte.String
	if !der.ReadASN1(&body, asn1.SEQUENCE) || !der.Empty() {
		return false
	}
	for !body.Empty() {
		var member cryptobyte.String
		var tag asn1.Tag
		ok := body.ReadAnyASN1(&member, &tag)
		switch {
		case !ok:
		case tag == tagVersion:
			ok = !p.hasVersion && member.ReadASN1Integer(&p.version) && member.Empty()
			p.hasVersion = true
		case tag == tagProduction:
			ok = member.ReadASN1Boolean(&p.production) && member.Empty()
		}
		if !ok {
			return false
		}
	}
	return true
}
