package agent

import (
	"context"
	"time"

	"github.com/zonebroker/zonebroker/broker/agent/workloadapi"
	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/claim"
	"github.com/zonebroker/zonebroker/broker/client"
)

// maxTokens bounds the tokens that are kept. The broker gives them only for the
// zone's audiences, so more than this is not in use.
const maxTokens = 1024

// token is a kept JWT-SVID.
type token struct {
	token   workloadapi.Token
	renewAt time.Time // half of its life
}

// JWTSVID returns a JWT-SVID of a workload that the zone lists, for one audience.
// It is kept until half of its life has passed; afterwards another one is
// fetched, and the kept one serves to its end where that fails. Errors are those
// of X509SVID, and reason.PolicyAudience where the zone does not allow it.
func (a *Agent) JWTSVID(ctx context.Context, workload, audience string) (workloadapi.Token, error) {
	key := flightKey{kind: flightJWT, workload: workload, audience: audience}
	now := a.cfg.Now()
	a.mu.Lock()
	z, err := a.zoneFor(workload, now)
	if err != nil {
		a.mu.Unlock()
		return workloadapi.Token{}, err
	}
	kept := a.tokens[key]
	if kept != nil && now.Before(kept.renewAt) {
		a.mu.Unlock()
		return kept.token, nil
	}
	f, err := a.fly(key, z, now)
	a.mu.Unlock()
	if err == nil {
		err = f.wait(ctx)
	}
	switch {
	case err == nil:
		return f.token, nil
	case kept != nil && judge(err).verdict == outage && a.serves(key, kept):
		return kept.token, nil
	}
	return workloadapi.Token{}, err
}

// serves says whether a kept token is still good: it has not ended, and the zone
// that it speaks of was not withdrawn meanwhile.
func (a *Agent) serves(key flightKey, kept *token) bool {
	now := a.cfg.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.zoneAt(now) != nil && a.tokens[key] == kept && now.Before(kept.token.ExpiresAt)
}

func (a *Agent) fetchToken(ctx context.Context, c *client.Client, z *zone, workload, audience string) (workloadapi.Token, error) {
	answer, err := c.JWT(ctx, api.JWTRequest{Audience: audience, Workload: workload})
	if err != nil {
		return workloadapi.Token{}, err
	}
	if t, err := a.checkToken(answer.Token, z, workload, audience); err == nil {
		return t, nil
	}
	// A replica that is new has a key that the last bundle does not know.
	if err := a.fetchBundle(ctx, c); err != nil {
		return workloadapi.Token{}, err
	}
	return a.checkToken(answer.Token, z, workload, audience)
}

func (a *Agent) checkToken(compact string, z *zone, workload, audience string) (workloadapi.Token, error) {
	bundle := a.TrustBundle()
	if bundle == nil {
		return workloadapi.Token{}, answerFault("there is no bundle to verify the JWT-SVID with", nil)
	}
	verified, err := claim.VerifyJWT(compact, bundle, audience, a.cfg.Now())
	if err != nil {
		return workloadapi.Token{}, answerFault("the JWT-SVID does not verify under the bundle: "+err.Error(), nil) // the code is not the caller's fault
	}
	if verified.ID().String() != z.workloadID(workload) {
		return workloadapi.Token{}, answerFault("the JWT-SVID has another SPIFFE ID than the zone and the name give", nil)
	}
	return workloadapi.Token{SPIFFEID: verified.ID().String(), Audience: audience, Token: compact, ExpiresAt: verified.Expires()}, nil
}

// keepToken keeps a token; a.mu is held.
func (a *Agent) keepToken(key flightKey, t workloadapi.Token, now time.Time) {
	if len(a.tokens) >= maxTokens {
		clear(a.tokens)
	}
	a.tokens[key] = &token{token: t, renewAt: now.Add(t.ExpiresAt.Sub(now) / 2)}
}
