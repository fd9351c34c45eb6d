package tdx

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/strictjson"
)

// Statuses that Intel gives a level (PCS API v4, TCB level). Of those, UpToDate
// alone is taken by default.
const (
	StatusUpToDate               = "UpToDate"
	StatusSWHardening            = "SWHardeningNeeded"
	StatusConfiguration          = "ConfigurationNeeded"
	StatusConfigurationHardening = "ConfigurationAndSWHardeningNeeded"
	StatusOutOfDate              = "OutOfDate"
	StatusOutOfDateConfiguration = "OutOfDateConfigurationNeeded"
	StatusRevoked                = "Revoked"
)

var statuses = []string{StatusUpToDate, StatusSWHardening, StatusConfiguration, StatusConfigurationHardening, StatusOutOfDate, StatusOutOfDateConfiguration, StatusRevoked}

// Lengths of lists in Intel's documents.
const (
	maxLevels  = 256
	maxModules = 64
)

// octetsHex is a value in hex of either case; its length is checked by read.
type octetsHex []byte

// UnmarshalText implements encoding.TextUnmarshaler.
func (o *octetsHex) UnmarshalText(text []byte) (err error) {
	*o, err = hex.DecodeString(string(text))
	return err
}

// tcbInfo is TCB info version 3 of a TDX platform.
type tcbInfo struct {
	ID         string      `json:"id"`
	Version    int         `json:"version"`
	IssueDate  time.Time   `json:"issueDate"`
	NextUpdate time.Time   `json:"nextUpdate"`
	FMSPC      octetsHex   `json:"fmspc"`
	PCEID      octetsHex   `json:"pceId"`
	Type       int         `json:"tcbType"`
	Evaluation int         `json:"tcbEvaluationDataNumber"`
	Module     *tdxModule  `json:"tdxModule"`
	Modules    []tdxModule `json:"tdxModuleIdentities"`
	Levels     []tcbLevel  `json:"tcbLevels"`
}

// tdxModule is what a TDX module has to be; the one without an id stands for
// modules of version 0.
type tdxModule struct {
	ID         string         `json:"id"`
	MRSigner   octetsHex      `json:"mrsigner"`
	Attributes octetsHex      `json:"attributes"`
	Mask       octetsHex      `json:"attributesMask"`
	Levels     []enclaveLevel `json:"tcbLevels"`
}

type component struct {
	SVN      uint8  `json:"svn"`
	Category string `json:"category"`
	Type     string `json:"type"`
}

type tcbLevel struct {
	TCB struct {
		SGX    []component `json:"sgxtcbcomponents"`
		PCESVN uint16      `json:"pcesvn"`
		TDX    []component `json:"tdxtcbcomponents"`
	} `json:"tcb"`
	standing
}

// enclaveLevel is a level of an enclave or a module, by its one SVN.
type enclaveLevel struct {
	TCB struct {
		ISVSVN uint16 `json:"isvsvn"`
	} `json:"tcb"`
	standing
}

// standing is how Intel judges a level.
type standing struct {
	Date       time.Time `json:"tcbDate"`
	Status     string    `json:"tcbStatus"`
	Advisories []string  `json:"advisoryIDs"`
}

// qeIdentity is enclave identity version 2 of the quoting enclave for TDs.
type qeIdentity struct {
	ID         string         `json:"id"`
	Version    int            `json:"version"`
	IssueDate  time.Time      `json:"issueDate"`
	NextUpdate time.Time      `json:"nextUpdate"`
	Evaluation int            `json:"tcbEvaluationDataNumber"`
	MiscSelect octetsHex      `json:"miscselect"`
	MiscMask   octetsHex      `json:"miscselectMask"`
	Attributes octetsHex      `json:"attributes"`
	Mask       octetsHex      `json:"attributesMask"`
	MRSigner   octetsHex      `json:"mrsigner"`
	ISVProdID  uint16         `json:"isvprodid"`
	Levels     []enclaveLevel `json:"tcbLevels"`
}

// kindOf reads what a signed document is about before its members are, which
// differ: Intel signs documents for SGX with the same key.
func kindOf(text string) (string, error) {
	var document struct {
		ID string `json:"id"`
	}
	err := strictjson.Unmarshal([]byte(text), &document)
	return document.ID, err
}

func readDocument(name, text, id string, version int, dst any, got *int) error {
	kind, err := kindOf(text)
	if err == nil && kind != id {
		return reason.Newf(reason.TDXCollateralMismatch, "the %s is for %q, expected %q", name, kind, id)
	}
	if err == nil {
		err = strictjson.UnmarshalKnown([]byte(text), dst)
	}
	if err != nil {
		return reason.Wrap(reason.TDXCollateralMismatch, "the "+name+" has not the form of Intel's API", err)
	}
	if *got != version {
		return reason.Newf(reason.TDXCollateralMismatch, "the %s has version %d, expected %d", name, *got, version)
	}
	return nil
}

func (t *tcbInfo) read(text string) error {
	if err := readDocument("TCB info", text, "TDX", 3, t, &t.Version); err != nil {
		return err
	}
	ok := t.Type == 0 && len(t.FMSPC) == 6 && len(t.PCEID) == 2 && t.Module != nil && t.Module.ID == "" && t.Module.whole() &&
		len(t.Modules) <= maxModules && len(t.Levels) > 0 && len(t.Levels) <= maxLevels
	for i := range t.Modules {
		ok = ok && strings.HasPrefix(t.Modules[i].ID, "TDX_") && t.Modules[i].whole()
	}
	for i := range t.Levels {
		l := &t.Levels[i]
		ok = ok && len(l.TCB.SGX) == components && len(l.TCB.TDX) == components && slices.Contains(statuses, l.Status)
	}
	if !ok {
		return reason.New(reason.TDXCollateralMismatch, "the TCB info has values of impossible length or an unknown status")
	}
	return nil
}

func (m *tdxModule) whole() bool {
	return len(m.MRSigner) == 48 && len(m.Attributes) == 8 && len(m.Mask) == 8 && len(m.Levels) <= maxLevels && known(m.Levels)
}

// known: levels of enclaves and modules are good, old or revoked; how other ones
// would go together with the platform's is not defined.
func known(levels []enclaveLevel) bool {
	for i := range levels {
		if s := levels[i].Status; s != StatusUpToDate && s != StatusOutOfDate && s != StatusRevoked {
			return false
		}
	}
	return true
}

func (q *qeIdentity) read(text string) error {
	if err := readDocument("QE identity", text, "TD_QE", 2, q, &q.Version); err != nil {
		return err
	}
	if len(q.MiscSelect) != 4 || len(q.MiscMask) != 4 || len(q.Attributes) != 16 || len(q.Mask) != 16 || len(q.MRSigner) != 32 ||
		len(q.Levels) == 0 || len(q.Levels) > maxLevels || !known(q.Levels) {
		return reason.New(reason.TDXCollateralMismatch, "the QE identity has values of impossible length or an unknown status")
	}
	return nil
}

// masked reports whether got is want in the bits of mask; all have one length.
func masked(got, want, mask []byte) bool {
	for i := range mask {
		if got[i]&mask[i] != want[i]&mask[i] {
			return false
		}
	}
	return true
}

// level is what a platform's standing comes to.
type level struct {
	status     string
	date       time.Time // of the platform's level
	advisories []string  // in the order of their names, each once
}

// judge returns the level of the quote (Intel SGX and TDX PCS, "Retrieve TDX TCB
// Info", how to determine a TCB level): of the platform, then lowered by the
// quoting enclave's and the TDX module's.
func (c *collateral) judge(b body, qe enclave, p *platform) (level, error) {
	if !bytes.Equal(c.tcb.FMSPC, p.fmspc[:]) {
		return level{}, c.errPlatform(hex.EncodeToString(p.fmspc[:]))
	}
	if !bytes.Equal(c.tcb.PCEID, p.pceID[:]) {
		return level{}, reason.Newf(reason.TDXCollateralMismatch, "the TCB info is for PCE %x, the platform has %x", []byte(c.tcb.PCEID), p.pceID)
	}
	module, err := c.tcb.module(b)
	if err != nil {
		return level{}, err
	}
	if err := c.qe.matches(qe); err != nil {
		return level{}, err
	}
	at := slices.IndexFunc(c.tcb.Levels, func(l tcbLevel) bool { return l.reached(b.teeTCBSVN(), p) })
	if at < 0 {
		return level{}, reason.New(reason.TDXTCBStatus, "the platform is below every level that Intel names")
	}
	found := []*standing{&c.tcb.Levels[at].standing}
	for _, one := range []struct {
		name   string
		svn    uint16
		levels []enclaveLevel
	}{{"quoting enclave", qe.isvSVN(), c.qe.Levels}, {"TDX module", uint16(b.teeTCBSVN()[0]), module.Levels}} {
		if module.ID == "" && one.name == "TDX module" {
			continue // version 0 is judged by the platform's components alone
		}
		i := slices.IndexFunc(one.levels, func(l enclaveLevel) bool { return l.TCB.ISVSVN <= one.svn })
		if i < 0 {
			return level{}, reason.Newf(reason.TDXTCBStatus, "the %s has SVN %d, which is below every level that Intel names", one.name, one.svn)
		}
		found = append(found, &one.levels[i].standing)
	}
	return sum(found)
}

// sum lowers the first standing by the others. Revoked and unknown levels are for
// no zone to allow.
func sum(found []*standing) (level, error) {
	out := level{status: found[0].Status, date: found[0].Date}
	for _, s := range found {
		if s.Status == StatusRevoked {
			return level{}, reason.New(reason.TDXTCBStatus, "Intel revoked the TCB level of the platform, its quoting enclave or its TDX module")
		}
		out.advisories = append(out.advisories, s.Advisories...)
		if s.Status != StatusOutOfDate {
			continue
		}
		switch out.status {
		case StatusUpToDate, StatusSWHardening:
			out.status = StatusOutOfDate
		case StatusConfiguration, StatusConfigurationHardening:
			out.status = StatusOutOfDateConfiguration
		}
	}
	slices.Sort(out.advisories)
	out.advisories = slices.Compact(out.advisories)
	return out, nil
}

// reached reports whether all components are at least those of the level. Where a
// TDX module has a version, its own two components are judged by its identity.
func (l *tcbLevel) reached(teeTCBSVN []byte, p *platform) bool {
	if p.pceSVN < l.TCB.PCESVN {
		return false
	}
	for i := range components {
		if p.svn[i] < l.TCB.SGX[i].SVN {
			return false
		}
	}
	from := 0
	if teeTCBSVN[1] > 0 {
		from = 2
	}
	for i := from; i < components; i++ {
		if teeTCBSVN[i] < l.TCB.TDX[i].SVN {
			return false
		}
	}
	return true
}

// module returns the identity of the quote's TDX module, by the version in its
// TEE_TCB_SVN, and compares who signed the module and with which attributes it
// was loaded: MRSIGNERSEAM is zero for Intel's own.
func (t *tcbInfo) module(b body) (*tdxModule, error) {
	m := t.Module
	if version := b.teeTCBSVN()[1]; version > 0 {
		id := fmt.Sprintf("TDX_%02X", version)
		at := slices.IndexFunc(t.Modules, func(m tdxModule) bool { return strings.EqualFold(m.ID, id) })
		if at < 0 {
			return nil, reason.Newf(reason.TDXCollateralMismatch, "the TCB info does not know the TDX module %s", id)
		}
		m = &t.Modules[at]
	}
	if !bytes.Equal(m.MRSigner, b.mrSignerSeam()) || !masked(b.seamAttributes(), m.Attributes, m.Mask) {
		return nil, reason.New(reason.TDXCollateralMismatch, "the TDX module has another signer or other attributes than Intel's")
	}
	return m, nil
}

// matches compares the quoting enclave with its identity.
func (q *qeIdentity) matches(e enclave) error {
	if !bytes.Equal(q.MRSigner, e.mrSigner()) || q.ISVProdID != e.isvProdID() ||
		!masked(e.miscSelect(), q.MiscSelect, q.MiscMask) || !masked(e.attributes(), q.Attributes, q.Mask) {
		return reason.Newf(reason.TDXCollateralMismatch, "the quoting enclave (signer %x, product %d) is not the one of the QE identity", e.mrSigner(), e.isvProdID())
	}
	return nil
}
