package documenttest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"encoding/pem"
	"math/big"
	"slices"
	"time"
)

// AMD is a PKI of the shape of AMD's for one product: ARK, ASK and ASVK, with RSA
// keys of 2048 bits, as those of 4096 take seconds to make.
type AMD struct {
	product        string // "Milan", "Genoa" or "Turin"
	ark, ask, asvk amdCA
	now            time.Time
}

type amdCA struct {
	cert *x509.Certificate
	key  *rsa.PrivateKey
}

// NewAMD makes the PKI of a product as AMD spells it, valid for twenty years
// around the time now.
func NewAMD(product string, now time.Time) (*AMD, error) {
	a := &AMD{product: product, now: now}
	var err error
	if a.ark, err = a.ca("ARK-"+product, nil); err != nil {
		return nil, err
	}
	if a.ask, err = a.ca("SEV-"+product, &a.ark); err != nil {
		return nil, err
	}
	a.asvk, err = a.ca("SEV-VLEK-"+product, &a.ark)
	return a, err
}

func (a *AMD) ca(name string, parent *amdCA) (amdCA, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return amdCA{}, err
	}
	own := amdCA{key: key}
	template := a.template(name)
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	if parent == nil {
		parent = &amdCA{cert: template, key: key}
	}
	own.cert, err = parent.issue(template, key.Public())
	return own, err
}

func (a *AMD) template(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(0x10001),
		Subject: pkix.Name{
			OrganizationalUnit: []string{"Engineering"}, Country: []string{"US"}, Locality: []string{"Santa Clara"},
			Province: []string{"CA"}, Organization: []string{"Advanced Micro Devices"}, CommonName: name,
		},
		NotBefore: a.now.AddDate(-10, 0, 0), NotAfter: a.now.AddDate(10, 0, 0),
		SignatureAlgorithm: x509.SHA384WithRSAPSS,
	}
}

func (c *amdCA) issue(template *x509.Certificate, key crypto.PublicKey) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, c.cert, key, c.key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// Roots returns ASK, ASVK and ARK as one PEM bundle.
func (a *AMD) Roots() []byte {
	return slices.Concat(certificatePEM(a.ask.cert.Raw), certificatePEM(a.asvk.cert.Raw), certificatePEM(a.ark.cert.Raw))
}

// ARK returns the root certificate in DER.
func (a *AMD) ARK() []byte { return slices.Clone(a.ark.cert.Raw) }

// ASK returns the issuer of VCEKs in DER.
func (a *AMD) ASK() []byte { return slices.Clone(a.ask.cert.Raw) }

// ASVK returns the issuer of VLEKs in DER.
func (a *AMD) ASVK() []byte { return slices.Clone(a.asvk.cert.Raw) }

func certificatePEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// CRL returns a revocation list of the ARK in DER, which names the ASK if revoked
// says so, of the last month and until next.
func (a *AMD) CRL(revoked bool, next time.Time) ([]byte, error) {
	list := &x509.RevocationList{
		Number: big.NewInt(1), ThisUpdate: a.now.AddDate(0, -1, 0), NextUpdate: next,
		SignatureAlgorithm: x509.SHA384WithRSAPSS,
	}
	if revoked {
		list.RevokedCertificateEntries = []x509.RevocationListEntry{{SerialNumber: a.ask.cert.SerialNumber, RevocationTime: a.now.AddDate(0, -1, 0)}}
	}
	return x509.CreateRevocationList(rand.Reader, list, a.ark.cert, a.ark.key)
}

// Endorser is an endorsement key with its certificate.
type Endorser struct {
	Certificate []byte // DER
	key         *ecdsa.PrivateKey
}

// oidAMD is the arc of AMD's extensions; below 3 are the security versions.
func oidAMD(arc ...int) asn1.ObjectIdentifier {
	return append(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1}, arc...)
}

// VCEK makes the key of a chip at a TCB, written as in a report. change may alter
// the certificate before it is signed; nil leaves it.
func (a *AMD) VCEK(chip [64]byte, tcb uint64, change func(*x509.Certificate)) (*Endorser, error) {
	hwid := chip[:]
	if a.product == "Turin" {
		hwid = chip[:8]
	}
	return a.endorser("SEV-VCEK", a.product+"-B0", tcb, pkix.Extension{Id: oidAMD(4), Value: hwid}, &a.ask, change)
}

// VLEK makes the key of a provider at a TCB.
func (a *AMD) VLEK(provider string, tcb uint64, change func(*x509.Certificate)) (*Endorser, error) {
	return a.endorser("SEV-VLEK", a.product, tcb, pkix.Extension{Id: oidAMD(5), Value: ia5(provider)}, &a.asvk, change)
}

func (a *AMD) endorser(name, product string, tcb uint64, own pkix.Extension, issuer *amdCA, change func(*x509.Certificate)) (*Endorser, error) {
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		return nil, err
	}
	structure := 0
	if a.product == "Turin" {
		structure = 1
	}
	template := a.template(name)
	template.SerialNumber = big.NewInt(1)
	template.NotBefore, template.NotAfter = a.now.AddDate(0, -1, 0), a.now.AddDate(7, 0, 0)
	template.ExtraExtensions = []pkix.Extension{{Id: oidAMD(1), Value: integer(structure)}, {Id: oidAMD(2), Value: ia5(product)}}
	for arc, v := range a.versions(tcb) {
		template.ExtraExtensions = append(template.ExtraExtensions, pkix.Extension{Id: oidAMD(3, arc), Value: integer(v)})
	}
	template.ExtraExtensions = append(template.ExtraExtensions, own)
	if change != nil {
		change(template)
	}
	cert, err := issuer.issue(template, key.Public())
	if err != nil {
		return nil, err
	}
	return &Endorser{Certificate: cert.Raw, key: key}, nil
}

// versions are the security versions of a TCB by the arcs of their extensions.
func (a *AMD) versions(tcb uint64) map[int]int {
	b := func(i int) int { return int(tcb >> (8 * i) & 0xff) }
	if a.product == "Turin" {
		return map[int]int{9: b(0), 1: b(1), 2: b(2), 3: b(3), 8: b(7)}
	}
	return map[int]int{1: b(0), 2: b(1), 4: b(2), 5: b(3), 6: b(4), 7: b(5), 3: b(6), 8: b(7)}
}

func integer(n int) []byte {
	der, _ := asn1.Marshal(n) // an int always has a form
	return der
}

// ia5 writes an IA5String of fewer than 128 letters.
func ia5(s string) []byte { return append([]byte{0x16, byte(len(s))}, s...) }

// SNPReport are the fields of a report. Numbers that have a layout of their own
// (policy, TCBs, platform, key information) are written as they stand.
type SNPReport struct {
	Version, GuestSVN, VMPL, Algorithm, KeyInfo uint32
	Policy, Platform                            uint64
	Current, Reported, Committed, Launch        uint64
	FamilyID, ImageID                           [16]byte
	ReportData, ChipID                          [64]byte
	Measurement, IDKey, AuthorKey               [48]byte
	HostData, ReportID, AgentID                 [32]byte
	CPUID                                       [3]byte // family, model, stepping
	LaunchVector, CurrentVector                 uint64
	CurrentFirmware, CommittedFirmware          [3]byte // build, minor, major
}

// Report returns a report as a guest of a cloud would get it: version 3 (5 on
// Turin), signed by the VCEK of a chip at a TCB above every floor.
func (a *AMD) Report() SNPReport {
	r := SNPReport{
		Version: 3, GuestSVN: 2, Algorithm: 1, Policy: 0x3001f, Platform: 0x25, CPUID: [3]byte{0x19, 0x01, 0x01},
		CurrentFirmware: [3]byte{0x1d, 0x37, 1}, CommittedFirmware: [3]byte{0x1d, 0x37, 1},
	}
	tcb := uint64(0xdb18000000000004)
	switch a.product {
	case "Genoa":
		r.CPUID, tcb = [3]byte{0x19, 0x11, 0x01}, 0x541700000000000a
	case "Turin":
		r.Version, r.CPUID, tcb = 5, [3]byte{0x1a, 0x02, 0x01}, 0x4a00000004010101
	}
	r.Current, r.Reported, r.Committed, r.Launch = tcb, tcb, tcb, tcb
	for i := range r.Measurement {
		r.Measurement[i] = byte(i + 1)
	}
	for i := range r.ReportID {
		r.ReportID[i], r.AgentID[i] = byte(0xa0+i), 0xff
	}
	for i := range r.ChipID {
		r.ChipID[i] = byte(0x40 + i)
	}
	if a.product == "Turin" {
		clear(r.ChipID[8:])
	}
	return r
}

// Bytes returns the 1184 bytes of the report, not signed.
func (r SNPReport) Bytes() []byte {
	le, b := binary.LittleEndian, make([]byte, 1184)
	le.PutUint32(b[0x000:], r.Version)
	le.PutUint32(b[0x004:], r.GuestSVN)
	le.PutUint64(b[0x008:], r.Policy)
	copy(b[0x010:], r.FamilyID[:])
	copy(b[0x020:], r.ImageID[:])
	le.PutUint32(b[0x030:], r.VMPL)
	le.PutUint32(b[0x034:], r.Algorithm)
	le.PutUint64(b[0x038:], r.Current)
	le.PutUint64(b[0x040:], r.Platform)
	le.PutUint32(b[0x048:], r.KeyInfo)
	copy(b[0x050:], r.ReportData[:])
	copy(b[0x090:], r.Measurement[:])
	copy(b[0x0c0:], r.HostData[:])
	copy(b[0x0e0:], r.IDKey[:])
	copy(b[0x110:], r.AuthorKey[:])
	copy(b[0x140:], r.ReportID[:])
	copy(b[0x160:], r.AgentID[:])
	le.PutUint64(b[0x180:], r.Reported)
	if r.Version >= 3 {
		copy(b[0x188:], r.CPUID[:])
	}
	copy(b[0x1a0:], r.ChipID[:])
	le.PutUint64(b[0x1e0:], r.Committed)
	copy(b[0x1e8:], r.CurrentFirmware[:])
	copy(b[0x1ec:], r.CommittedFirmware[:])
	le.PutUint64(b[0x1f0:], r.Launch)
	if r.Version >= 5 {
		le.PutUint64(b[0x1f8:], r.LaunchVector)
		le.PutUint64(b[0x200:], r.CurrentVector)
	}
	return b
}

// Sign returns the report with a signature over its first 672 bytes.
func (e *Endorser) Sign(report []byte) ([]byte, error) {
	sum := sha512.Sum384(report[:0x2a0])
	r, s, err := ecdsa.Sign(rand.Reader, e.key, sum[:])
	if err != nil {
		return nil, err
	}
	out := slices.Clone(report)
	for i, n := range []*big.Int{r, s} {
		b := n.FillBytes(make([]byte, 72))
		slices.Reverse(b)
		copy(out[0x2a0+72*i:], b)
	}
	return out, nil
}
