package documenttest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	encoding_asn1 "encoding/asn1"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"time"
)

// IntelPKI is a certificate authority in the shape of Intel's for SGX and TDX,
// with one machine: its PCK, its quoting enclave and its attestation key. At is
// the time around which everything is valid.
type IntelPKI struct {
	At time.Time

	root, ca, signing, pck certKey
	attestation            *ecdsa.PrivateKey
}

// certKey is a certificate and its key.
type certKey struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// FMSPC is the family of the machine of an IntelPKI, as collateral is named.
const FMSPC = "b0c06f000000"

// NewIntelPKI makes a PKI with fresh keys.
func NewIntelPKI(at time.Time) *IntelPKI {
	p := &IntelPKI{At: at.UTC().Truncate(time.Second), attestation: ecKey(elliptic.P256())}
	isCA := func(t *x509.Certificate) {
		t.IsCA, t.BasicConstraintsValid, t.KeyUsage = true, true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign
	}
	p.root = p.certify("Intel SGX Root CA", nil, isCA)
	p.ca = p.certify("Intel SGX PCK Platform CA", &p.root, isCA)
	p.signing = p.certify("Intel SGX TCB Signing", &p.root, nil)
	p.IssuePCK(nil)
	return p
}

// IssuePCK gives the machine another PCK certificate, edited before it is signed.
func (p *IntelPKI) IssuePCK(edit func(*x509.Certificate)) {
	p.pck = p.certify("Intel SGX PCK Certificate", &p.ca, func(t *x509.Certificate) {
		t.ExtraExtensions = []pkix.Extension{{Id: oidSGX, Value: SGXExtension(FMSPC, 11)}}
		// As Intel's have it; nothing reads the address.
		t.BasicConstraintsValid, t.SubjectKeyId = true, randomBytes(20)
		t.CRLDistributionPoints = []string{"https://crl.example/pck"}
		if edit != nil {
			edit(t)
		}
	})
}

// IssueSigning gives the TCB signing key another certificate, edited before it is
// signed.
func (p *IntelPKI) IssueSigning(edit func(*x509.Certificate)) {
	p.signing = p.certify("Intel SGX TCB Signing", &p.root, edit)
}

func (p *IntelPKI) certify(name string, by *certKey, edit func(*x509.Certificate)) certKey {
	return certify(elliptic.P256(), &x509.Certificate{
		Subject: pkix.Name{CommonName: name, Organization: []string{"Intel Corporation"}}, NotBefore: p.At.AddDate(-1, 0, 0), NotAfter: p.At.AddDate(7, 0, 0),
	}, by, edit)
}

// certify makes a certificate with a fresh key; by is nil for one that signs itself.
func certify(curve elliptic.Curve, t *x509.Certificate, by *certKey, edit func(*x509.Certificate)) certKey {
	t.KeyUsage = x509.KeyUsageDigitalSignature
	t.SerialNumber = new(big.Int).SetBytes(randomBytes(16))
	if edit != nil {
		edit(t)
	}
	out := certKey{cert: t, key: ecKey(curve)}
	if by == nil {
		by = &out
	}
	der := sure(x509.CreateCertificate(rand.Reader, t, by.cert, out.key.Public(), by.key))
	out.cert = sure(x509.ParseCertificate(der))
	return out
}

// Chain returns a chain in PEM whose first certificate is of a foreign key: that
// of a PCK, or of the TCB signing key.
func (p *IntelPKI) Chain(pub crypto.PublicKey, pck bool) []byte {
	own, above := p.signing, []certKey{p.root}
	if pck {
		own, above = p.pck, []certKey{p.ca, p.root}
	}
	t := *own.cert
	t.ExtraExtensions, t.SignatureAlgorithm, t.PublicKey = t.Extensions, x509.UnknownSignatureAlgorithm, nil
	der := sure(x509.CreateCertificate(rand.Reader, &t, above[0].cert, pub, above[0].key))
	return append(certificatePEM(der), pemOf(above...)...)
}

// List makes a revocation list of the root, or of the CA of PCKs, in hex as a
// bundle has it. edit may alter the list and, for its name, the issuer.
func (p *IntelPKI) List(root bool, edit func(list *x509.RevocationList, issuer *x509.Certificate)) string {
	by := p.ca
	if root {
		by = p.root
	}
	t, issuer := p.emptyList(), *by.cert
	edit(t, &issuer)
	return hex.EncodeToString(sure(x509.CreateRevocationList(rand.Reader, t, &issuer, by.key)))
}

// RootPEM returns the root of the PKI.
func (p *IntelPKI) RootPEM() []byte { return pemOf(p.root) }

func pemOf(chain ...certKey) []byte {
	var out []byte
	for _, a := range chain {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})...)
	}
	return out
}

var oidSGX = encoding_asn1.ObjectIdentifier{1, 2, 840, 113741, 1, 13, 1}

type sgxMember struct {
	ID    encoding_asn1.ObjectIdentifier
	Value any
}

// SGXExtension returns the extension of a PCK certificate: a platform of this
// fmspc, PCE id 0, SVN 6 in all components.
func SGXExtension(fmspc string, pceSVN int) []byte {
	under := func(arcs ...int) encoding_asn1.ObjectIdentifier {
		return append(append(encoding_asn1.ObjectIdentifier{}, oidSGX...), arcs...)
	}
	var tcb []sgxMember
	for i := range 16 {
		tcb = append(tcb, sgxMember{under(2, i+1), 6})
	}
	tcb = append(tcb, sgxMember{under(2, 17), pceSVN}, sgxMember{under(2, 18), make([]byte, 16)})
	return sure(encoding_asn1.Marshal([]sgxMember{
		{under(1), make([]byte, 16)},
		{under(2), tcb},
		{under(3), make([]byte, 2)},
		{under(4), sure(hex.DecodeString(fmspc))},
		{under(5), encoding_asn1.Enumerated(1)},
	}))
}

// TDXFields is what a quote says. The zero value is a good quote of version 4 with
// REPORTDATA of zeros.
type TDXFields struct {
	Version    uint16 // 4 where 0
	TD15       bool   // body of TDX 1.5, version 5 only
	ReportData [64]byte
	Debug      bool
	RTMRs      [4][48]byte
	Auth       []byte // 32 bytes where nil

	// What is edited before it is signed: the TD report body, and the report of the
	// quoting enclave.
	EditBody, EditReport func([]byte)
}

// Quote makes a quote of the machine.
func (p *IntelPKI) Quote(f TDXFields) []byte {
	if f.Version == 0 {
		f.Version = 4
	}
	if f.Auth == nil {
		f.Auth = make([]byte, 32)
	}
	signed := append(tdxHeader(f.Version), tdxBody(&f)...)
	point := sure(p.attestation.PublicKey.Bytes())[1:]
	report := qeReport(point, f.Auth)
	if f.EditReport != nil {
		f.EditReport(report)
	}
	chain := append(pemOf(p.pck, p.ca, p.root), 0)
	data := append(report, rawSignature(p.pck.key, report, sha256Of)...)
	data = binary.LittleEndian.AppendUint16(data, uint16(len(f.Auth)))
	data = append(data, f.Auth...)
	data = append(binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint16(data, 5), uint32(len(chain))), chain...)

	sig := append(rawSignature(p.attestation, signed, sha256Of), point...)
	sig = append(binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint16(sig, 6), uint32(len(data))), data...)
	return append(binary.LittleEndian.AppendUint32(signed, uint32(len(sig))), sig...)
}

func tdxHeader(version uint16) []byte {
	h := make([]byte, 48)
	binary.LittleEndian.PutUint16(h, version)
	binary.LittleEndian.PutUint16(h[2:], 2)
	binary.LittleEndian.PutUint32(h[4:], 0x81)
	copy(h[12:], sure(hex.DecodeString("939a7233f79c4ca9940a0db3957f0607")))
	return h
}

// tdxBody fills registers with their own offset, so that no two are equal.
func tdxBody(f *TDXFields) []byte {
	size, kind := 584, uint16(2)
	if f.TD15 {
		size, kind = 648, 3
	}
	b := make([]byte, size)
	for _, at := range []int{16, 136, 184, 232, 280} {
		for i := range 48 {
			b[at+i] = byte(at)
		}
	}
	copy(b, []byte{6, 1, 3}) // TEE_TCB_SVN
	b[123] = 0x10            // SEPT_VE_DISABLE
	b[128] = 0xe7
	if f.Debug {
		b[120] |= 1
	}
	for i, r := range f.RTMRs {
		copy(b[328+48*i:], r[:])
	}
	copy(b[520:], f.ReportData[:])
	if f.EditBody != nil {
		f.EditBody(b)
	}
	if f.Version == 4 {
		return b
	}
	return append(binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint16(nil, kind), uint32(size)), b...)
}

const qeSigner = "dc9e2a7c6f948f17474e34a7fc43ed030f7c1563f1babddf6340c82e0e54a8c5"

func qeReport(point, auth []byte) []byte {
	r := make([]byte, 384)
	r[48], r[56] = 0x15, 0xe7
	copy(r[128:], sure(hex.DecodeString(qeSigner)))
	binary.LittleEndian.PutUint16(r[256:], 2)
	binary.LittleEndian.PutUint16(r[258:], 6)
	named := sha256.Sum256(append(append([]byte{}, point...), auth...))
	copy(r[320:], named[:])
	return r
}

// CollateralFields is what collateral says. The zero value is good: two levels of
// the platform, the machine being UpToDate.
type CollateralFields struct {
	RevokePCK, RevokeCA bool
	// What is edited before it is signed, as JSON text, and the bundle behind that.
	EditTCBInfo, EditQEIdentity func(string) string
	EditBundle                  func(map[string]string)
	ListOfRoot                  bool // the root signs the list of PCKs
}

// Collateral makes the bundle for the machine, good from a day before At to thirty
// days behind it.
func (p *IntelPKI) Collateral(f CollateralFields) []byte {
	var revokedPCK, revokedCA []*big.Int
	if f.RevokePCK {
		revokedPCK = append(revokedPCK, p.pck.cert.SerialNumber)
	}
	if f.RevokeCA {
		revokedCA = append(revokedCA, p.ca.cert.SerialNumber)
	}
	lister := p.ca
	if f.ListOfRoot {
		lister = p.root
	}
	tcb, qe := edited(p.tcbInfo(), f.EditTCBInfo), edited(p.qeIdentity(), f.EditQEIdentity)
	signers := string(pemOf(p.signing, p.root))
	out := map[string]string{
		"pck_crl_issuer_chain": string(pemOf(p.ca, p.root)),
		"root_ca_crl":          hex.EncodeToString(p.list(&p.root, revokedCA)),
		"pck_crl":              hex.EncodeToString(p.list(&lister, revokedPCK)),
		"tcb_info":             tcb, "tcb_info_issuer_chain": signers,
		"tcb_info_signature": hex.EncodeToString(rawSignature(p.signing.key, []byte(tcb), sha256Of)),
		"qe_identity":        qe, "qe_identity_issuer_chain": signers,
		"qe_identity_signature": hex.EncodeToString(rawSignature(p.signing.key, []byte(qe), sha256Of)),
	}
	if f.EditBundle != nil {
		f.EditBundle(out)
	}
	return sure(json.Marshal(out))
}

func edited(text string, edit func(string) string) string {
	if edit == nil {
		return text
	}
	return edit(text)
}

func (p *IntelPKI) list(by *certKey, revoked []*big.Int) []byte {
	t := p.emptyList()
	for _, serial := range revoked {
		t.RevokedCertificateEntries = append(t.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: serial, RevocationTime: p.At.AddDate(0, 0, -2)})
	}
	return sure(x509.CreateRevocationList(rand.Reader, t, by.cert, by.key))
}

func (p *IntelPKI) emptyList() *x509.RevocationList {
	return &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: p.At.AddDate(0, 0, -1), NextUpdate: p.At.AddDate(0, 0, 40)}
}

func (p *IntelPKI) dates() string {
	return fmt.Sprintf(`"issueDate":"%s","nextUpdate":"%s"`, p.At.AddDate(0, 0, -1).Format(time.RFC3339), p.At.AddDate(0, 0, 30).Format(time.RFC3339))
}

func (p *IntelPKI) tcbInfo() string {
	svns := func(n int) string { return strings.TrimSuffix(strings.Repeat(fmt.Sprintf(`{"svn":%d},`, n), 16), ",") }
	level := func(sgx, pce, tdx int, status string) string {
		return fmt.Sprintf(`{"tcb":{"sgxtcbcomponents":[%s],"pcesvn":%d,"tdxtcbcomponents":[{"svn":5},{"svn":0},{"svn":%d},%s]},"tcbDate":"2024-03-13T00:00:00Z","tcbStatus":%q}`,
			svns(sgx), pce, tdx, strings.TrimSuffix(strings.Repeat(`{"svn":0},`, 13), ","), status)
	}
	module := `"mrsigner":"` + strings.Repeat("0", 96) + `","attributes":"0000000000000000","attributesMask":"FFFFFFFFFFFFFFFF"`
	return `{"id":"TDX","version":3,` + p.dates() + `,"fmspc":"` + strings.ToUpper(FMSPC) + `","pceId":"0000","tcbType":0,"tcbEvaluationDataNumber":17,` +
		`"tdxModule":{` + module + `},"tdxModuleIdentities":[{"id":"TDX_01",` + module +
		`,"tcbLevels":[{"tcb":{"isvsvn":4},"tcbDate":"2024-03-13T00:00:00Z","tcbStatus":"UpToDate"},{"tcb":{"isvsvn":2},"tcbDate":"2023-08-09T00:00:00Z","tcbStatus":"OutOfDate"}]}],` +
		`"tcbLevels":[` + level(6, 11, 3, "UpToDate") + "," + level(5, 5, 2, "OutOfDate") + `]}`
}

func (p *IntelPKI) qeIdentity() string {
	return `{"id":"TD_QE","version":2,` + p.dates() + `,"tcbEvaluationDataNumber":17,"miscselect":"00000000","miscselectMask":"FFFFFFFF",` +
		`"attributes":"11000000000000000000000000000000","attributesMask":"FBFFFFFFFFFFFFFF0000000000000000","mrsigner":"` + strings.ToUpper(qeSigner) +
		`","isvprodid":2,"tcbLevels":[{"tcb":{"isvsvn":4},"tcbDate":"2024-03-13T00:00:00Z","tcbStatus":"UpToDate"},` +
		`{"tcb":{"isvsvn":2},"tcbDate":"2022-03-13T00:00:00Z","tcbStatus":"OutOfDate","advisoryIDs":["INTEL-SA-00837"]}]}`
}
