package platform

import (
	"bytes"
	"cmp"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/zonebroker/zonebroker/broker/trust"
	"github.com/zonebroker/zonebroker/verifier"
)

// maxImport bounds a file that is imported, in bytes.
const maxImport = 4 << 20

// Outcomes of an object that is imported.
const (
	ImportAdded      = "added"      // kept, in place of an older one of its name
	ImportPresent    = "present"    // was in the folder already
	ImportUnlisted   = "unlisted"   // has the form of a kind with fingerprints, and none of them; not kept
	ImportRefused    = "refused"    // not what it has to be; not kept
	ImportUnreadable = "unreadable" // not of the kind that was said
)

// Imported is what became of one object.
type Imported struct {
	ID
	Outcome string // an Import constant
	Subject string
	SHA256  string // of its certificates
	Prints  [][32]byte
	File    string
	Detail  string
}

// Importing says how a file is taken.
type Importing struct {
	// Kind is what the file is; "" recognises it by its content, and passes over
	// what could be several things.
	Kind string
	// Name of the object; "" takes that of the table, of the content, or of the file.
	Name string
	// Address is an https URL where a JWK set is fetched again from.
	Address string
	// AlsoUnlisted keeps certificates that the table does not list, on the
	// operator's word.
	AlsoUnlisted bool
	Now          time.Time
}

// Import takes objects from a file, or from the files of a folder and below it.
// The error is one of writing, of a folder that cannot be read, or of an Importing
// that makes no sense; what is wrong with a single file is in the list.
func (f *Folder) Import(file string, how Importing) ([]Imported, error) {
	if _, ok := kindOf(how.Kind); how.Kind != "" && !ok {
		return nil, fmt.Errorf("kind %q is none of %s", how.Kind, strings.Join(Kinds(), ", "))
	}
	if how.Address != "" && (how.Kind != verifier.TrustJWKS || !strings.HasPrefix(how.Address, "https://")) {
		return nil, errors.New("an address goes with keys (jwks), and begins with https://")
	}
	files, err := trust.Files(file)
	if err != nil {
		return nil, err
	}
	if how.Name != "" && (len(files) != 1 || how.Kind == "") {
		return nil, errors.New("a name goes with one file and its kind")
	}
	var out []Imported
	var all []find
	for _, file := range files {
		raw, err := readFile(file, maxImport)
		var found []find
		if err == nil {
			found, err = f.recognise(file, raw, how)
		}
		if err != nil {
			if how.Kind != "" {
				out = append(out, Imported{ID: ID{Kind: how.Kind}, Outcome: ImportUnreadable, File: file, Detail: err.Error()})
			}
			continue
		}
		for i := range found {
			found[i].file = file
		}
		all = append(all, found...)
	}
	// Lists, collateral and VCEKs are believed under roots that may come along.
	slices.SortStableFunc(all, func(a, b find) int { return cmp.Compare(rank(a), rank(b)) })
	for _, x := range all {
		got, err := f.takeFound(x, how)
		if err != nil {
			return out, err
		}
		out = append(out, got)
	}
	return out, nil
}

// find is an object in a file.
type find struct {
	ID
	content
	listed bool
	file   string
}

// rank orders what comes together: anchors, what is below them, what they sign.
func rank(x find) int {
	switch {
	case slices.ContainsFunc(x.certs, selfIssued):
		return 0
	case x.listed:
		return 1
	}
	return 2
}

func selfIssued(c *x509.Certificate) bool { return bytes.Equal(c.RawIssuer, c.RawSubject) }

func (f *Folder) recognise(file string, raw []byte, how Importing) ([]find, error) {
	switch trimmed := bytes.TrimSpace(raw); {
	case how.Kind == verifier.TrustEC2 && bytes.HasPrefix(trimmed, []byte("{")), how.Kind == "" && bytes.HasPrefix(trimmed, []byte("{")):
		return f.recogniseJSON(file, raw)
	case how.Kind != "":
		return f.asKind(file, raw, how)
	}
	if block, _ := pem.Decode(raw); block == nil || block.Type != "CERTIFICATE" {
		if c, err := readCRL(raw); err == nil {
			return listOfAMD(c), nil
		}
	}
	certs, err := manyCertificates(raw)
	if err != nil {
		return nil, err
	}
	found := f.listed("", certs)
	for _, c := range certs {
		if chip, err := chipOf(c); err == nil {
			found = append(found, find{ID: ID{verifier.TrustVCEK, chip.name()}, content: ofCertificates([]*x509.Certificate{c})})
		}
	}
	return found, nil
}

// manyCertificates reads a file that may be the bundle of many objects.
func manyCertificates(raw []byte) ([]*x509.Certificate, error) {
	block, rest := pem.Decode(raw)
	if block == nil {
		return certificates(raw)
	}
	var out []*x509.Certificate
	for ; block != nil; block, rest = pem.Decode(rest) {
		// What is wrong with single certificates is said where makers' are imported.
		if c, err := x509.ParseCertificate(block.Bytes); err == nil && block.Type == "CERTIFICATE" {
			out = append(out, c)
		}
	}
	return out, nil
}

// listed finds the rows, of one kind or of all, whose certificates are all there.
func (f *Folder) listed(kind string, certs []*x509.Certificate) []find {
	by := map[[32]byte]*x509.Certificate{}
	for _, c := range certs {
		by[ofCertificates([]*x509.Certificate{c}).prints[0]] = c
	}
	var out []find
	for _, r := range f.rows {
		var of []*x509.Certificate
		for _, sum := range r.SHA256 {
			if c := by[sum]; c != nil {
				of = append(of, c)
			}
		}
		if len(r.SHA256) > 0 && len(of) == len(r.SHA256) && (kind == "" || kind == r.Kind) {
			out = append(out, find{ID: r.ID, content: ofCertificates(of), listed: true})
		}
	}
	return out
}

// listOfAMD names a list by its product; lists of others are not for here.
func listOfAMD(c content) []find {
	product, ok := strings.CutPrefix(c.crl.Issuer.CommonName, "ARK-")
	if !ok || layouts[strings.ToLower(product)] == nil {
		return nil
	}
	return []find{{ID: ID{verifier.TrustSNPCRL, strings.ToLower(product)}, content: c}}
}

// recogniseJSON knows a map of names to certificates, collateral, and keys.
func (f *Folder) recogniseJSON(file string, raw []byte) ([]find, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(raw, &members); err != nil {
		return nil, err
	}
	kind := ""
	switch {
	case members["tcb_info"] != nil:
		kind = verifier.TrustIntelTCB
	case members["jwks"] != nil && members["format"] != nil:
		kind = verifier.TrustJWKS
	}
	if kind != "" {
		return f.asKind(file, raw, Importing{Kind: kind})
	}
	var certs []*x509.Certificate
	for _, m := range members {
		var text string
		if json.Unmarshal(m, &text) != nil {
			return nil, nil
		}
		of, err := certificates([]byte(text))
		if err != nil {
			return nil, nil
		}
		certs = append(certs, of...)
	}
	return f.listed("", certs), nil
}

// asKind reads a file as what the operator says that it is.
func (f *Folder) asKind(file string, raw []byte, how Importing) ([]find, error) {
	k, _ := kindOf(how.Kind)
	c, err := k.read(raw)
	if err != nil {
		return nil, err
	}
	if k.form == formCertificates && how.Name == "" {
		if found := f.listed(k.name, c.certs); len(found) > 0 {
			return found, nil
		}
	}
	name := how.Name
	if name == "" {
		name = strings.TrimSuffix(filepath.Base(file), filepath.Ext(file))
	}
	switch k.form {
	case formCollateral:
		name = c.subject
	case formVCEK:
		chip, err := chipOf(c.certs[0])
		if err != nil {
			return nil, err
		}
		name = chip.name()
	case formCRL:
		if found := listOfAMD(c); found != nil && k.name == verifier.TrustSNPCRL {
			return found, nil
		}
	}
	return []find{{ID: ID{k.name, name}, content: c, listed: f.lists(ID{k.name, name}, c)}}, nil
}

// lists says whether a row has these certificates under this name.
func (f *Folder) lists(id ID, c content) bool {
	for _, r := range f.rows {
		if r.ID == id && len(r.SHA256) > 0 {
			return printText(r.SHA256) == printText(c.prints)
		}
	}
	return false
}

// printed says whether the table has fingerprints for a kind.
func (f *Folder) printed(kind string) bool {
	for _, r := range f.rows {
		if r.Kind == kind && len(r.SHA256) > 0 {
			return true
		}
	}
	return false
}

func (f *Folder) takeFound(x find, how Importing) (Imported, error) {
	out := Imported{ID: x.ID, File: x.file, Subject: x.subject, SHA256: printText(x.prints), Prints: x.prints}
	old := f.held[x.ID]
	if old != nil && bytes.Equal(old.raw, x.raw) && (how.Address == "" || how.Address == old.state.Address) {
		out.Outcome = ImportPresent
		return out, nil
	}
	if f.printed(x.Kind) && !x.listed && !how.AlsoUnlisted {
		out.Outcome = ImportUnlisted
		return out, nil
	}
	if !verifier.ValidTrustName(x.Name) {
		out.Outcome, out.Detail = ImportRefused, "its name is none for a trust object: say another with --name"
		return out, nil
	}
	if err := f.believeFound(x, old, how.Now); err != nil {
		out.Outcome, out.Detail = ImportRefused, err.Error()
		return out, nil
	}
	if _, err := verifier.NewDocuments(f.with(x.ID, x.raw)); err != nil {
		out.Outcome, out.Detail = ImportRefused, err.Error()
		return out, nil
	}
	st := state{}
	if how.Address != "" {
		st = state{Address: how.Address, Fetched: how.Now.UTC().Truncate(time.Second), Expires: how.Now.UTC().Truncate(time.Second).Add(keysLife)}
	}
	out.Outcome = ImportAdded
	if old != nil {
		out.Detail = "in place of another one of that name"
	}
	return out, f.put(x.ID, x.content, st)
}

// believeFound holds what is signed against what is in the folder, as Refresh
// does: a file can be as false as a server.
func (f *Folder) believeFound(x find, old *object, now time.Time) error {
	r := &refreshing{folder: f, from: &Fetcher{Now: func() time.Time { return now }}}
	t := target{ID: x.ID, held: old}
	switch k, _ := kindOf(x.Kind); k.form {
	case formCRL:
		return r.believeList(t, x.content)
	case formVCEK:
		want, err := parseChip(x.Name)
		if err != nil {
			return err
		}
		return believeVCEK(x.content, want, r.certsOf(verifier.TrustSNP))
	case formCollateral:
		c, err := readCollateral(x.raw)
		if err != nil {
			return err
		}
		return r.believeCollateral(t, &c)
	}
	return nil
}
