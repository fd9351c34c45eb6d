package given

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"

	"github.com/zonebroker/zonebroker/broker/agent/collect"
	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// DefaultTokenFile is where the documentation mounts the projected token.
const DefaultTokenFile = "/var/run/secrets/tokens/zonebroker"

const (
	maxJWT = 16 << 10
	maxEAT = 64 << 10 // of the detached token, and of what the program prints around it
)

// PSAT collects the projected service-account token of a pod.
type PSAT struct {
	// Path of the token; the kubelet replaces it before it ends.
	Path string
	// Root is put before Path; "" is the running system.
	Root string
}

// Format is k8s.psat.
func (PSAT) Format() string { return verifier.FormatK8sPSAT }

// Detect looks for the file.
func (c PSAT) Detect(context.Context) collect.Finding {
	path := collect.File(c.Root, c.Path)
	if err := (Source{path: path}).present(); err != nil {
		fix := ""
		if collect.Exists(collect.File(c.Root, "/var/run/secrets/kubernetes.io")) {
			fix = "mount a projected service-account token with the broker's audience there, or name another file with --token-file"
		}
		return collect.No(c.Format(), "C", "there is no projected token at "+path, fix)
	}
	return collect.Yes(c.Format(), "C", "projected token "+path)
}

// Collect reads the token anew each time. Its audience was fixed when the volume
// was mounted, so it carries nothing of the challenge.
func (c PSAT) Collect(ctx context.Context, _ collect.Bound) (verifier.Item, error) {
	token, err := Source{path: collect.File(c.Root, c.Path)}.read(ctx, "the projected token", "", maxJWT)
	return verifier.Item{Format: c.Format(), Document: token}, err
}

// Token collects a token that another verifier made about this host for the
// challenge. A program of the machine's owner gets it: it takes the client of that
// verifier, and an address that the owner chooses.
type Token struct {
	format, what string
	from         challenged
}

// EAR returns the collector of ear, the result of a verifier that the broker knows.
func EAR(source Source) Token {
	return Token{verifier.FormatEAR, "the result of the other verifier", challenged{source, "--ear", reason.EARNonceMismatch}}
}

// MAA returns the collector of azure.maa, a token of Microsoft Azure Attestation.
func MAA(source Source) Token {
	return Token{verifier.FormatAzureMAA, "the token of Microsoft Azure Attestation", challenged{source, "--maa", reason.AzureNonceMismatch}}
}

// Format is ear or azure.maa.
func (c Token) Format() string { return c.format }

// Detect looks for the source.
func (c Token) Detect(context.Context) collect.Finding {
	return c.from.detect(c.format)
}

// Collect asks the source for a token that carries the challenge.
func (c Token) Collect(ctx context.Context, bound collect.Bound) (verifier.Item, error) {
	token, err := c.from.read(ctx, c.what, base64.RawURLEncoding.EncodeToString(bound.Value[:]), maxJWT)
	return verifier.Item{Format: c.format, Document: token}, err
}

// GPU collects what NVIDIA's tools say of the GPUs: a detached EAT.
type GPU struct{ Source Source }

// Format is nvidia.
func (GPU) Format() string { return verifier.FormatNVIDIA }

// Detect looks for the source.
func (c GPU) Detect(context.Context) collect.Finding {
	return c.from().detect(c.Format())
}

func (c GPU) from() challenged {
	return challenged{c.Source, "--gpu", reason.NvidiaNonceMismatch}
}

// Collect asks for a token over the nonce of the whole attestation, so that GPU
// and processor were asked by the same guest. nvattest prints the token as the
// member detached_eat of an object, or reports as its member evidences; a file or
// another program may give either bare.
func (c GPU) Collect(ctx context.Context, bound collect.Bound) (verifier.Item, error) {
	nonce := sha256.Sum256(bound.Primary[:])
	text, err := c.from().read(ctx, "the token of the GPU", hex.EncodeToString(nonce[:]), maxEAT)
	if err != nil {
		return verifier.Item{}, err
	}
	if text[0] == '{' {
		var printed struct {
			Token   json.RawMessage `json:"detached_eat"`
			Reports json.RawMessage `json:"evidences"`
		}
		err := json.Unmarshal(text, &printed)
		if text = printed.Token; len(text) == 0 {
			text = printed.Reports
		}
		if err != nil || len(text) == 0 {
			return verifier.Item{}, &collect.Error{What: "get the token of the GPU", Why: c.Source.String() + " printed neither detached_eat nor evidences", Fix: "look at what it prints; GPU attestation has to be on (nvidia-smi conf-compute -f)"}
		}
	}
	return verifier.Item{Format: c.Format(), Document: text}, nil
}

// challenged is a source whose document a broker takes only where it was made for
// the challenge.
type challenged struct {
	source Source
	flag   string
	code   reason.Code // of a document that was not
}

// fault says why no document for a challenge can come from the source, nil if one
// can.
func (c challenged) fault() *collect.Error {
	what := "look at " + c.flag
	if c.source.IsZero() {
		return &collect.Error{What: what, Why: "no source is configured", Fix: "name a program with " + c.flag}
	}
	if err := c.source.present(); err != nil {
		return &collect.Error{What: what, Why: err.Error(), Fix: what, Err: err}
	}
	if !c.source.fixed() {
		return nil
	}
	return &collect.Error{
		What: what,
		Why:  c.source.String() + " is not told the challenge, and a broker refuses what was not made for it (" + string(c.code) + ")",
		Fix:  "name a program that is: " + c.flag + ` "exec:PROGRAM … {nonce}"`,
	}
}

func (c challenged) detect(format string) collect.Finding {
	if err := c.fault(); err != nil {
		return collect.Missing(format, document.ClassB, err)
	}
	return collect.Yes(format, document.ClassB, "output of "+c.source.String())
}

// read asks the source. One that cannot answer this challenge is not asked: what it
// has would have everything beside it refused too.
func (c challenged) read(ctx context.Context, what, nonce string, limit int) ([]byte, error) {
	if err := c.fault(); err != nil {
		return nil, err
	}
	return c.source.read(ctx, what, nonce, limit)
}

// JoinToken stands for a one-time token, which goes with the enrolment itself: the
// document is empty.
type JoinToken struct{ Token string }

// Format is jointoken.
func (JoinToken) Format() string { return verifier.FormatJoinToken }

// Detect says whether there is one.
func (c JoinToken) Detect(context.Context) collect.Finding {
	if c.Token == "" {
		return collect.No(c.Format(), document.ClassC, "no join token is given", "ask an operator for one (zonebroker token create) and name its file with --join-token")
	}
	return collect.Yes(c.Format(), document.ClassC, "join token")
}

// Collect returns an item without a document.
func (c JoinToken) Collect(context.Context, collect.Bound) (verifier.Item, error) {
	return verifier.Item{Format: c.Format()}, nil
}
