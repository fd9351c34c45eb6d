package nitro

import (
	"crypto/x509"
	"math"
	"strings"
	"time"

	"github.com/zonebroker/zonebroker/verifier/cose"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// Members that hold the PCRs, by type.
const (
	memberEnclave  = "pcrs"
	memberInstance = "nitrotpm_pcrs"
)

// read takes the content apart. Its form is judged before any key is used, as the
// certificate inside is needed for the signature anyway; what it says counts only
// behind that.
func read(content cose.Map, kind Type) (Document, error) {
	_, enclave := content[memberEnclave]
	_, instance := content[memberInstance]
	if enclave && instance {
		return Document{}, reason.New(reason.NitroType, "the document has the PCRs of an enclave and those of an instance")
	}
	if kind == Enclave && instance || kind == Instance && enclave {
		return Document{}, reason.New(reason.NitroType, "an enclave's document was offered as an instance's, or the reverse")
	}
	d := Document{kind: kind}
	if err := d.fields(content); err != nil {
		return Document{}, err
	}
	member := memberEnclave
	if kind == Instance {
		member = memberInstance
	}
	pcrs, ok := content[member].(map[any]any)
	if !ok {
		return Document{}, reason.New(reason.NitroFields, "the map of PCRs is missing")
	}
	return d, d.registers(pcrs)
}

// fields reads all members but the PCRs and the certificates. A member that
// nobody here knows is refused: with "nitrotpm_pcrs" AWS once added one that made
// the document another.
func (d *Document) fields(content cose.Map) error {
	for key := range content {
		switch key {
		case "module_id", "timestamp", "digest", memberEnclave, memberInstance, "certificate", "cabundle", "public_key", "user_data", "nonce":
		default:
			return reason.New(reason.NitroFields, "a member that the format does not have")
		}
	}
	module, err := content.Text("module_id")
	if err != nil {
		return err
	}
	if !d.named(module) {
		return reason.New(reason.NitroFields, "module_id is missing, or no name of this type of document")
	}
	millis, ok, err := content.Unsigned("timestamp")
	if err != nil {
		return err
	}
	if !ok || millis == 0 || millis > math.MaxInt64 {
		return reason.New(reason.NitroFields, "timestamp is missing or no time")
	}
	d.timestamp = time.UnixMilli(int64(millis)).UTC()
	for _, f := range []struct {
		name string
		into *[]byte
	}{{"nonce", &d.nonce}, {"user_data", &d.userData}, {"public_key", &d.publicKey}} {
		if *f.into, err = content.Bytes(f.name); err != nil {
			return err
		}
		if len(*f.into) > MaxField {
			return reason.Newf(reason.NitroFields, "%s is longer than 1024 bytes", f.name)
		}
	}
	digest, err := content.Text("digest")
	if err != nil {
		return err
	}
	if digest != "SHA384" {
		return reason.New(reason.NitroDigest, "digest is not SHA384")
	}
	return nil
}

// registers reads PCRs. An enclave always has the first three, and an absent
// register must not read as one that differs from a debug enclave's.
func (d *Document) registers(in map[any]any) error {
	d.pcrs = make(map[int][]byte, len(in))
	for key, v := range in {
		i, ok := key.(uint64)
		value, isBytes := v.([]byte)
		if !ok || i >= PCRs || !isBytes || len(value) != PCRSize {
			return reason.New(reason.NitroPCR, "a PCR has an index above 31 or is not 48 bytes long")
		}
		d.pcrs[int(i)] = value
	}
	if len(d.pcrs) == 0 || d.kind == Enclave && (d.pcrs[0] == nil || d.pcrs[1] == nil || d.pcrs[2] == nil) {
		return reason.New(reason.NitroPCR, "PCR 0, 1 or 2 is missing")
	}
	return nil
}

// named takes a module apart: "i-<hex>-enc<hex>" of an enclave, "i-<hex>" or
// "i-<hex>-tpm<hex>" of an instance. The names go into selectors and admissions,
// so nothing but this form passes.
func (d *Document) named(module string) bool {
	d.moduleID = module
	instance, tail, more := strings.Cut(strings.TrimPrefix(module, "i-"), "-")
	if !strings.HasPrefix(module, "i-") || len(instance) < 8 || len(instance) > 17 || !isHex(instance) {
		return false
	}
	d.instanceID = "i-" + instance
	prefix := "enc"
	if d.kind == Instance {
		if !more {
			return true
		}
		prefix = "tpm"
	}
	id, ok := strings.CutPrefix(tail, prefix)
	if !ok || id == "" || len(id) > 32 || !isHex(id) {
		return false
	}
	if d.kind == Enclave {
		d.enclaveID = tail
	}
	return true
}

func isHex(s string) bool { return strings.Trim(s, "0123456789abcdef") == "" }

// certified wants the certificate to be that of the module, by its common name
// "<module>.<region>.aws". The certificate of an instance's document may name the
// instance with or without what NSM appends to it.
func (d *Document) certified(leaf *x509.Certificate) error {
	mismatch := reason.New(reason.NitroLeaf, "the certificate is not that of the module in the document")
	module, rest, ok := strings.Cut(leaf.Subject.CommonName, ".")
	region, isAWS := strings.CutSuffix(rest, ".aws")
	if !ok || !isAWS || !isRegion(region) {
		return mismatch
	}
	bare := d.kind == Instance && d.moduleID == d.instanceID && strings.HasPrefix(module, d.instanceID+"-")
	if module != d.moduleID && !bare {
		return mismatch
	}
	d.region = region
	return nil
}

// isRegion: "us-east-1", "us-gov-west-1", "ap-southeast-2".
func isRegion(s string) bool {
	parts := strings.Split(s, "-")
	if len(parts) < 3 || len(s) > 32 {
		return false
	}
	last := len(parts) - 1
	for _, p := range parts[:last] {
		if p == "" || strings.Trim(p, "abcdefghijklmnopqrstuvwxyz") != "" {
			return false
		}
	}
	return parts[last] != "" && strings.Trim(parts[last], "0123456789") == ""
}
