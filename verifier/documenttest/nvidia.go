package documenttest

import (
	"crypto"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	encoding_asn1 "encoding/asn1"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"
)

// NVIDIAPKI is a certificate authority in the shape of NVIDIA's for devices. At is
// the time at which everything is valid.
type NVIDIAPKI struct {
	At time.Time

	root, identity, provisioner certKey
}

// NewNVIDIAPKI makes a PKI with fresh keys.
func NewNVIDIAPKI(at time.Time) *NVIDIAPKI {
	p := &NVIDIAPKI{At: at}
	p.root = p.issue("NVIDIA Device Identity CA", nil, asCA)
	p.identity = p.issue("NVIDIA GH100 Identity", &p.root, asCA)
	p.provisioner = p.issue("NVIDIA GH100 Provisioner ICA 1", &p.identity, asCA)
	return p
}

func asCA(t *x509.Certificate) {
	t.IsCA, t.BasicConstraintsValid, t.KeyUsage = true, true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign
}

func (p *NVIDIAPKI) issue(name string, by *certKey, edit func(*x509.Certificate)) certKey {
	return certify(elliptic.P384(), &x509.Certificate{
		Subject: pkix.Name{CommonName: name, Organization: []string{"NVIDIA Corporation"}}, NotBefore: p.At.AddDate(-5, 0, 0), NotAfter: p.At.AddDate(50, 0, 0),
	}, by, edit)
}

// RootPEM returns the root of the PKI.
func (p *NVIDIAPKI) RootPEM() []byte { return pemOf(p.root) }

// GPUFields is what a device says. The zero value is a good device asked with a
// nonce of zeros, with three measurements.
type GPUFields struct {
	Nonce        [32]byte
	Driver       string // 550.90.07 where empty
	Measurements map[byte][]byte

	// What is edited before it is signed: the certificate of the device's key, and
	// both messages without their signature.
	EditLeaf     func(*x509.Certificate)
	EditMessages func([]byte) []byte
	Direct       bool             // the provisioner issues the leaf, no device between
	Short        bool             // the root issues the device, nothing between
	Blackwell    bool             // the leaf names its firmware as those of Blackwell do
	Key          crypto.PublicKey // certified in place of the device's own key, nil for that
}

// GPU is a device with its report.
type GPU struct {
	Arch        string `json:"arch"`
	Certificate string `json:"certificate"`
	Evidence    string `json:"evidence"`
	Nonce       string `json:"nonce"`
}

// Device makes a device with fresh keys and its report.
func (p *NVIDIAPKI) Device(f GPUFields) GPU {
	firmware := sha512.Sum384([]byte("firmware"))
	device := p.issue("GH100 A01 GSP BROM", &p.provisioner, asCA)
	if f.Short {
		device = p.issue("GH100 A01 GSP BROM", &p.root, asCA)
	}
	if f.Direct {
		device = p.root
	}
	leaf := p.issue("GH100 A01 GSP FMC LF", &device, func(t *x509.Certificate) {
		t.ExtraExtensions = []pkix.Extension{{Id: encoding_asn1.ObjectIdentifier{2, 23, 133, 5, 4, 1}, Value: compositeDevice(firmware[:])}}
		if f.Blackwell {
			t.ExtraExtensions = []pkix.Extension{{Id: encoding_asn1.ObjectIdentifier{2, 23, 133, 5, 4, 1, 1}, Value: GPUTCBInfo(firmware[:], make([]byte, len(firmware)))}}
		}
		if f.EditLeaf != nil {
			f.EditLeaf(t)
		}
	})
	messages := f.messages(firmware[:])
	if f.EditMessages != nil {
		messages = f.EditMessages(messages)
	}
	messages = append(messages, rawSignature(leaf.key, messages, sha384Of)...)
	if f.Key != nil {
		t := *leaf.cert
		t.ExtraExtensions, t.SignatureAlgorithm, t.PublicKey = t.Extensions, x509.UnknownSignatureAlgorithm, nil
		leaf.cert = sure(x509.ParseCertificate(sure(x509.CreateCertificate(rand.Reader, &t, device.cert, f.Key, device.key))))
	}
	chain := pemOf(leaf, device, p.provisioner, p.identity, p.root)
	return GPU{
		"HOPPER", base64.StdEncoding.EncodeToString(chain), base64.StdEncoding.EncodeToString(messages), hex.EncodeToString(f.Nonce[:]),
	}
}

// GPUEvidence writes the evidence file of some devices.
func GPUEvidence(devices ...GPU) []byte { return sure(json.Marshal(devices)) }

func compositeDevice(digest []byte) []byte {
	type fwid struct {
		Algorithm encoding_asn1.ObjectIdentifier
		Digest    []byte
	}
	type composite struct {
		Version int
		Key     struct {
			Algorithm encoding_asn1.ObjectIdentifier
		}
		FWID fwid
	}
	c := composite{Version: 1, FWID: fwid{encoding_asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}, digest}}
	c.Key.Algorithm = encoding_asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}
	return sure(encoding_asn1.Marshal(c))
}

// GPUTCBInfo writes a DiceTcbInfo that names firmware by its SHA-384 digests.
func GPUTCBInfo(digests ...[]byte) []byte {
	type fwid struct {
		Algorithm encoding_asn1.ObjectIdentifier
		Digest    []byte
	}
	type info struct {
		Vendor  string `asn1:"utf8,tag:0"`
		Model   string `asn1:"utf8,tag:1"`
		Version string `asn1:"utf8,tag:2"`
		SVN     int    `asn1:"tag:3"`
		Layer   int    `asn1:"tag:4"`
		Index   int    `asn1:"tag:5"`
		FWIDs   []fwid `asn1:"tag:6"`
		Type    []byte `asn1:"tag:9"`
	}
	out := info{Vendor: "NVIDIA", Model: "GB20X A01 GSP", Version: "02", SVN: 2, Type: []byte{0}}
	for _, d := range digests {
		out.FWIDs = append(out.FWIDs, fwid{encoding_asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}, d})
	}
	return sure(encoding_asn1.Marshal(out))
}

// GPUMeasurement is measurement i of a device of the zero GPUFields.
func GPUMeasurement(i byte) []byte { return sha384Of([]byte{i}) }

func (f *GPUFields) messages(firmware []byte) []byte {
	if f.Measurements == nil {
		f.Measurements = map[byte][]byte{1: GPUMeasurement(1), 2: GPUMeasurement(2), 3: GPUMeasurement(3)}
	}
	if f.Driver == "" {
		f.Driver = "550.90.07"
	}
	out := append([]byte{0x11, 0xe0, 0x01, 0xff}, f.Nonce[:]...)
	out = append(out, 0)
	var blocks []byte
	for i := range 256 {
		v, ok := f.Measurements[byte(i)]
		if !ok {
			continue
		}
		blocks = append(blocks, byte(i), 1)
		blocks = binary.LittleEndian.AppendUint16(blocks, uint16(len(v)+3))
		blocks = append(binary.LittleEndian.AppendUint16(append(blocks, 1), uint16(len(v))), v...)
	}
	out = append(out, 0x11, 0x60, 0, 0, byte(len(f.Measurements)), byte(len(blocks)), byte(len(blocks)>>8), 0)
	out = append(append(out, blocks...), randomBytes(32)...)
	var opaque []byte
	for _, o := range []struct {
		kind  uint16
		value []byte
	}{{6, []byte{0, 0x9f, 0, 0x96, 1, 0, 0, 0}}, {3, append([]byte(f.Driver), 0)}, {20, firmware}, {36, []byte{2, 0}}} {
		opaque = binary.LittleEndian.AppendUint16(opaque, o.kind)
		opaque = append(binary.LittleEndian.AppendUint16(opaque, uint16(len(o.value))), o.value...)
	}
	return append(binary.LittleEndian.AppendUint16(out, uint16(len(opaque))), opaque...)
}

// GPUReference returns reference measurements for devices of the zero GPUFields:
// kind driver has measurements 1 and 2, kind vbios measurement 3.
func GPUReference(kind string) []byte {
	version, indexes := "550.90.07", []byte{1, 2}
	if kind == "vbios" {
		version, indexes = "96.00.9F.00.01", []byte{3}
	}
	list := ""
	for _, i := range indexes {
		list += fmt.Sprintf(`,{"index":%d,"values":["%x"]}`, i, GPUMeasurement(i))
	}
	return []byte(fmt.Sprintf(`{"kind":%q,"chip":"GH100","version":%q,"measurements":[%s],"ignored":[]}`, kind, version, list[1:]))
}

// GPUClaims are the claims of NVIDIA's service about one good device.
func GPUClaims(nonce string, issued time.Time) map[string]any {
	chain := map[string]any{"x-nvidia-cert-status": "valid", "x-nvidia-cert-ocsp-status": "good", "x-nvidia-cert-revocation-reason": nil}
	out := map[string]any{
		"iss": NRASIssuer, "iat": issued.Unix(), "nbf": issued.Unix(), "exp": issued.Add(time.Hour).Unix(), "eat_nonce": nonce,
		"measres": "success", "dbgstat": "disabled", "secboot": true, "hwmodel": "GH100 A01 GSP BROM", "ueid": "478176379286082186618948445787393647364802107249",
		"x-nvidia-gpu-driver-version": "550.90.07", "x-nvidia-gpu-vbios-version": "96.00.9F.00.01",
		"x-nvidia-gpu-driver-rim-cert-chain": chain, "x-nvidia-gpu-vbios-rim-cert-chain": chain, "x-nvidia-gpu-attestation-report-cert-chain": chain,
	}
	for _, name := range []string{
		"attestation-report-signature-verified", "attestation-report-nonce-match", "driver-rim-signature-verified",
		"driver-rim-measurements-available", "vbios-rim-signature-verified", "vbios-rim-measurements-available", "arch-check",
	} {
		out["x-nvidia-gpu-"+name] = true
	}
	return out
}

// NRASIssuer is the issuer of NVIDIA's tokens.
const NRASIssuer = "https://nras.attestation.nvidia.com"

// NRASOverall are the claims over some devices' tokens.
func NRASOverall(nonce string, issued time.Time, tokens map[string]string) map[string]any {
	submods := map[string]any{}
	for name, token := range tokens {
		submods[name] = []any{"DIGEST", []string{"SHA-256", hex.EncodeToString(sha256Of([]byte(token)))}}
	}
	return map[string]any{
		"sub": "NVIDIA-PLATFORM-ATTESTATION", "iss": NRASIssuer, "iat": issued.Unix(), "nbf": issued.Unix(), "exp": issued.Add(time.Hour).Unix(),
		"eat_nonce": nonce, "x-nvidia-ver": "3.0", "x-nvidia-overall-att-result": true, "submods": submods,
	}
}

// DetachedEAT puts an overall token and those of devices into one bundle.
func DetachedEAT(overall string, tokens map[string]string) []byte {
	return sure(json.Marshal([]any{[]string{"JWT", overall}, tokens}))
}
