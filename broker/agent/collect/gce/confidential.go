package gce

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/zonebroker/zonebroker/broker/agent/collect"
	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/document"
)

// LauncherSocket is where the launcher of Confidential Space answers its workload.
const LauncherSocket = "/run/container_launcher/teeserver.sock"

// launcherTime: the launcher quotes and asks Google's verifier.
const launcherTime = 30 * time.Second

// Confidential collects the token of a Confidential Space.
type Confidential struct {
	// Root is put before LauncherSocket; "" is the running system.
	Root string
}

// Format is gcp.confidential.
func (Confidential) Format() string { return verifier.FormatGCPConfidential }

// Detect looks for the launcher.
func (c Confidential) Detect(context.Context) collect.Finding {
	if !collect.Exists(collect.File(c.Root, LauncherSocket)) {
		return collect.No(c.Format(), "B", "this is no container of Confidential Space: there is no "+LauncherSocket, "")
	}
	return collect.Yes(c.Format(), "B", "token of the Confidential Space launcher")
}

// Collect asks the launcher for a token whose audience and nonce are the
// challenge's.
func (c Confidential) Collect(ctx context.Context, bound collect.Bound) (verifier.Item, error) {
	question, err := json.Marshal(map[string]any{
		"audience":   document.Audience(bound.Value),
		"nonces":     []string{base64.RawURLEncoding.EncodeToString(bound.Value[:])},
		"token_type": "OIDC",
	})
	if err != nil {
		return verifier.Item{}, fmt.Errorf("ask the launcher: %w", err)
	}
	token, err := c.ask(ctx, question)
	if err != nil {
		return verifier.Item{}, &collect.Error{What: "ask the launcher of Confidential Space", Why: err.Error(), Fix: "look at the log of the launcher", Err: err}
	}
	return verifier.Item{Format: c.Format(), Document: bytes.TrimSpace(token)}, nil
}

func (c Confidential) ask(ctx context.Context, question []byte) ([]byte, error) {
	socket := collect.File(c.Root, LauncherSocket)
	client := &http.Client{
		Timeout: launcherTime,
		Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://localhost/v1/token", bytes.NewReader(question))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	rsp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer rsp.Body.Close()
	if rsp.StatusCode != http.StatusOK {
		_, _ = io.Copy(io.Discard, io.LimitReader(rsp.Body, maxSmall))
		return nil, fmt.Errorf("it answered with %d", rsp.StatusCode)
	}
	return collect.ReadAll(rsp.Body, maxJWT)
}
