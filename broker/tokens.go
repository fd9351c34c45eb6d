package broker

import (
	"context"
	"fmt"
	"time"

	"github.com/zonebroker/zonebroker/broker/claim"
	"github.com/zonebroker/zonebroker/broker/issuer"
	"github.com/zonebroker/zonebroker/broker/ledger"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// tokens is what JWT-SVIDs need beyond X.509-SVIDs.
type tokens struct {
	issuer    string // iss of tokens, https URL
	discovery []byte
}

// nextJWT is a pair of published token keys that readers of the bundle still
// have to learn of. Only StartTokens and the tokens job touch it, one after the
// other.
type nextJWT struct {
	keys *issuer.JWTKeys
	use  time.Time
}

// StartTokens makes the replica ready for JWT-SVIDs: it publishes a first pair
// of token keys and the documents by which readers of OIDC find them. issuerURL
// is the iss of all tokens and where those readers look: an https URL without a
// trailing slash, the same for every replica. Call it once, after Start and
// before Run. Without it /v1/jwt answers issuer.unavailable.
func (b *Broker) StartTokens(ctx context.Context, issuerURL string) error {
	if !claim.ValidIssuer(issuerURL) {
		return fmt.Errorf("oidc issuer %q is not an https URL without user, query, fragment and trailing slash, in its normal spelling", issuerURL)
	}
	doc, err := issuer.Discovery(issuerURL)
	if err != nil {
		return err
	}
	b.tokens.Store(&tokens{issuer: issuerURL, discovery: doc})
	if err := b.rotateTokens(ctx); err != nil {
		return fmt.Errorf("publish the first token keys: %w", err)
	}
	return nil
}

// rotateTokens is rotateCA for the keys of tokens. The pair is published in two
// records; one that was published alone, because the second failed, never signs.
func (b *Broker) rotateTokens(ctx context.Context) error {
	if b.tokens.Load() == nil {
		return nil
	}
	now := b.cfg.Now()
	if b.nextJWT == nil {
		if now.Before(b.cfg.Issuer.RotateJWTAt()) {
			return nil
		}
		keys, rows, err := b.cfg.Issuer.NewJWTKeys(now)
		if err != nil {
			return err
		}
		use := b.cfg.Issuer.UseJWTFrom(keys)
		for _, key := range rows {
			err = b.appendGrant(ctx, ledger.TypeKeyPublished, "replica:"+b.cfg.Replica, key.ID, "", func(c *ledger.Commit) { c.Key = &key })
			if err != nil {
				return err
			}
		}
		b.nextJWT = &nextJWT{keys: keys, use: use}
		if err := b.refreshBundle(ctx); err != nil {
			return err
		}
	}
	if b.cfg.Now().Before(b.nextJWT.use) {
		return nil
	}
	next := b.nextJWT
	b.nextJWT = nil
	return b.cfg.Issuer.ActivateJWT(next.keys)
}

func (b *Broker) oidcIssuer() string {
	if t := b.tokens.Load(); t != nil {
		return t.issuer
	}
	return ""
}

// OIDCDiscovery returns the openid-configuration document as JSON.
func (b *Broker) OIDCDiscovery(context.Context) ([]byte, error) {
	if t := b.tokens.Load(); t != nil {
		return t.discovery, nil
	}
	return nil, reason.New(reason.IssuerUnavailable, "this replica issues no tokens yet")
}

// JWKS returns the published token keys as readers of OIDC want them, as JSON.
func (b *Broker) JWKS(context.Context) ([]byte, error) {
	if d := b.bundle.Load(); d != nil {
		return d.jwks, nil
	}
	return nil, reason.New(reason.IssuerUnavailable, "no keys yet")
}
