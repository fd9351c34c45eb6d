package azure

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math/big"
	"strings"

	"github.com/zonebroker/zonebroker/verifier/strictjson"
)

// runtimeData is what the paravisor says of the machine.
type runtimeData struct {
	ak     []byte // SubjectPublicKeyInfo
	vm     string // GUID, lower case
	user   []byte // 64 bytes, nil for none
	config hclConfiguration
}

// runtimeJSON are the members of the runtime data; there are no others.
type runtimeJSON struct {
	Keys          []json.RawMessage `json:"keys"`
	Configuration json.RawMessage   `json:"vm-configuration"`
	UserData      *string           `json:"user-data"`
}

// hclKey is a key of the vTPM. Its key_ops are of no matter: older paravisors wrote
// "encrypt" for a key that signs.
type hclKey struct {
	ID       string `json:"kid"`
	Type     string `json:"kty"`
	Modulus  string `json:"n"`
	Exponent string `json:"e"`
}

// hclConfiguration is the machine's own part. Members that it does not know are
// passed over: the paravisor adds some from time to time, and vouches for them all.
// nil is what is not said.
type hclConfiguration struct {
	SecureBoot      *bool  `json:"secure-boot"`
	TPM             *bool  `json:"tpm-enabled"`
	Persisted       *bool  `json:"tpm-persisted"`
	Console         *bool  `json:"console-enabled"`
	RootCertificate string `json:"root-cert-thumbprint"`
	VM              string `json:"vmUniqueId"`
}

// akID is the name of the vTPM's attestation key among the keys.
const akID = "HCLAkPub"

// Limits of runtime data; Azure lists two keys, and a thumbprint has 43 letters.
const (
	maxKeys       = 8
	maxThumbprint = 128
)

var (
	errRuntimeForm = errors.New("not strict JSON of the members keys, vm-configuration and user-data")
	errRuntimeAK   = errors.New("not one RSA key named " + akID)
	errRuntimeVM   = errors.New("vmUniqueId is no GUID")
)

func readRuntime(data []byte) (runtimeData, error) {
	var top runtimeJSON
	var r runtimeData
	if strictjson.UnmarshalKnown(data, &top) != nil {
		return r, errRuntimeForm
	}
	var err error
	if r.ak, err = attestationKey(top.Keys); err != nil {
		return r, err
	}
	if top.UserData != nil {
		if r.user, err = hex.DecodeString(*top.UserData); err != nil || len(r.user) != 64 {
			return r, errRuntimeForm
		}
	}
	if strictjson.Unmarshal(top.Configuration, &r.config) != nil || len(r.config.RootCertificate) > maxThumbprint {
		return r, errRuntimeForm
	}
	if r.vm = strings.ToLower(r.config.VM); !isGUID(r.vm) {
		return r, errRuntimeVM
	}
	return r, nil
}

// attestationKey looks for the one key of that name: of two, the sender would
// choose.
func attestationKey(list []json.RawMessage) ([]byte, error) {
	if len(list) > maxKeys {
		return nil, errRuntimeAK
	}
	var found *hclKey
	for _, item := range list {
		var key hclKey
		if strictjson.Unmarshal(item, &key) != nil || key.ID == akID && found != nil {
			return nil, errRuntimeAK
		}
		if key.ID == akID {
			found = &key
		}
	}
	if found == nil || found.Type != "RSA" || found.Exponent != "AQAB" {
		return nil, errRuntimeAK
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(found.Modulus)
	n := new(big.Int).SetBytes(b)
	if err != nil || n.BitLen() < 2048 || n.BitLen() > 4096 {
		return nil, errRuntimeAK
	}
	return x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: n, E: 65537})
}

// isGUID wants 8-4-4-4-12 hex digits in lower case, not all zero.
func isGUID(s string) bool {
	if len(s) != 36 || s == "00000000-0000-0000-0000-000000000000" {
		return false
	}
	for i, c := range []byte(s) {
		dash := i == 8 || i == 13 || i == 18 || i == 23
		digit := c >= '0' && c <= '9' || c >= 'a' && c <= 'f'
		if dash != (c == '-') || !dash && !digit {
			return false
		}
	}
	return true
}
