package jwt

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/zonebroker/zonebroker/verifier/strictjson"
)

// Limits of configuration.
const (
	maxObject  = maxKeySet + 8<<10
	maxIssuers = 256
	// maxCandidates bounds the signatures computed for one token: keys of different
	// issuers that share an id, or have none.
	maxCandidates = 4
	maxLifetime   = 24 * time.Hour
)

// algorithms that an issuer may use; never none and never HMAC, for which a public
// key would be the secret.
var algorithms = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"}

// Profile is what a format says of its issuers.
type Profile struct {
	Format     string
	Algorithms []string // where an issuer names none
	// MaxLifetime from issue to expiry where an issuer names none.
	MaxLifetime time.Duration
	// MaxAge is how old a token without expiry may be; zero: every token has one.
	MaxAge time.Duration
	// Anonymous: tokens need not name their issuer, and the key says who it is.
	Anonymous bool
	// Members of a trust object that this format reads beside the common ones, by
	// name: audience, cluster, submods.
	Members []string
}

// Settings are one configured issuer.
type Settings struct {
	// Name is what the operator calls it: that of the trust object.
	Name string
	// Issuer is compared with iss byte for byte; "" only where the profile is
	// Anonymous.
	Issuer string
	Keys   Keys
	// Audience that all tokens of this issuer carry, where it cannot be one a
	// challenge.
	Audience    string
	Algorithms  []string      // default: the profile's
	MaxLifetime time.Duration // default: the profile's
	Cluster     string
	Submods     []string
}

// object is Settings as a trust object, jwks/<name>.
type object struct {
	Format      string          `json:"format"`
	Issuer      string          `json:"issuer"`
	JWKS        json.RawMessage `json:"jwks"`
	Audience    string          `json:"audience"`
	Algorithms  []string        `json:"algorithms"`
	MaxLifetime string          `json:"max_lifetime"`
	Cluster     string          `json:"cluster"`
	Submods     []string        `json:"submods"`
}

// Object is a trust object as it is stored.
type Object struct {
	Name string
	Raw  []byte
}

// Format returns the format that a trust object is for, after a strict look at
// its form; whether the format knows its members is up to NewIssuers.
func (o Object) Format() (string, error) {
	parsed, err := o.parse()
	return parsed.Format, err
}

func (o Object) parse() (object, error) {
	var out object
	if len(o.Raw) > maxObject {
		return out, fmt.Errorf("jwks/%s is too large", o.Name)
	}
	if err := strictjson.UnmarshalKnown(o.Raw, &out); err != nil {
		return out, fmt.Errorf("jwks/%s: %w", o.Name, err)
	}
	if out.Format == "" {
		return out, fmt.Errorf("jwks/%s names no format", o.Name)
	}
	return out, nil
}

// Parse reads those objects that are for the profile's format; the others are
// passed over. Each is strict JSON:
//
//	{"format": "k8s.psat", "issuer": "https://…", "jwks": {"keys": […]},
//	 "audience": "…", "algorithms": ["RS256"], "max_lifetime": "1h", "cluster": "…"}
//
// format and jwks are required, issuer unless the profile is Anonymous, and
// members that the profile does not list are refused.
func Parse(profile Profile, objects []Object) ([]Settings, error) {
	var out []Settings
	for _, o := range objects {
		parsed, err := o.parse()
		if err != nil {
			return nil, err
		}
		if parsed.Format != profile.Format {
			continue
		}
		s, err := parsed.settings(profile)
		if err != nil {
			return nil, fmt.Errorf("jwks/%s: %w", o.Name, err)
		}
		s.Name = o.Name
		out = append(out, s)
	}
	return out, nil
}

func (o *object) settings(profile Profile) (Settings, error) {
	s := Settings{Issuer: o.Issuer, Audience: o.Audience, Algorithms: o.Algorithms, Cluster: o.Cluster, Submods: o.Submods}
	for name, set := range map[string]bool{"audience": o.Audience != "", "cluster": o.Cluster != "", "submods": len(o.Submods) > 0} {
		if set && !slices.Contains(profile.Members, name) {
			return s, fmt.Errorf("member %q means nothing for %s", name, profile.Format)
		}
	}
	var err error
	if s.Keys, err = ParseKeys(o.JWKS); err != nil {
		return s, err
	}
	if o.MaxLifetime != "" {
		if s.MaxLifetime, _ = time.ParseDuration(o.MaxLifetime); s.MaxLifetime <= 0 || s.MaxLifetime > maxLifetime {
			return s, errors.New("max_lifetime has to be a duration above 0 and up to 24h")
		}
	}
	return s, nil
}

// Issuers are the configured issuers of one format. The zero value trusts none.
type Issuers struct {
	profile Profile
	list    []Settings
	algs    []string
	byID    map[string][]candidate
}

// candidate is a key with the issuers that use it: the tenants of one cloud share
// theirs.
type candidate struct {
	key     key
	issuers []int
}

// NewIssuers makes one set of what is configured. At most 256 issuers, and four
// different keys under one id.
func NewIssuers(profile Profile, settings []Settings) (Issuers, error) {
	out := Issuers{profile: profile, list: slices.Clone(settings), byID: map[string][]candidate{}}
	if len(settings) > maxIssuers {
		return Issuers{}, errors.New("more than 256 issuers of one format")
	}
	for i := range out.list {
		s := &out.list[i]
		if err := s.complete(profile); err != nil {
			return Issuers{}, fmt.Errorf("issuer %q: %w", s.Name, err)
		}
		for _, a := range s.Algorithms {
			if !slices.Contains(out.algs, a) {
				out.algs = append(out.algs, a)
			}
		}
		for _, k := range s.Keys.list {
			if err := out.add(i, k); err != nil {
				return Issuers{}, fmt.Errorf("issuer %q: %w", s.Name, err)
			}
		}
	}
	return out, nil
}

func (s *Settings) complete(profile Profile) error {
	if s.Issuer == "" && !profile.Anonymous {
		return errors.New("issuer is missing")
	}
	if s.Keys.Len() == 0 {
		return errors.New("no key")
	}
	if len(s.Algorithms) == 0 {
		s.Algorithms = profile.Algorithms
	}
	for _, a := range s.Algorithms {
		if !slices.Contains(algorithms, a) {
			return fmt.Errorf("algorithm %q is none of %s", a, strings.Join(algorithms, ", "))
		}
	}
	if s.MaxLifetime == 0 {
		s.MaxLifetime = profile.MaxLifetime
	}
	return nil
}

// add enters a key. Two issuers that cannot be told apart must not share one: the
// token would be of either.
func (s *Issuers) add(issuer int, k key) error {
	same := s.byID[k.id]
	for i := range same {
		if same[i].key.print != k.print {
			continue
		}
		for _, other := range same[i].issuers {
			if s.list[other].Issuer == s.list[issuer].Issuer {
				return fmt.Errorf("it has a key and the iss of %q", s.list[other].Name)
			}
		}
		same[i].issuers = append(same[i].issuers, issuer)
		return nil
	}
	if len(same) == maxCandidates {
		return fmt.Errorf("a fifth key with the id %q", k.id)
	}
	s.byID[k.id] = append(same, candidate{k, []int{issuer}})
	return nil
}

// Len returns the number of issuers.
func (s Issuers) Len() int { return len(s.list) }
