package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/zonebroker/zonebroker/broker/api"
)

// maxAnswer bounds an answer of the broker: a page of 500 entries is far below.
const maxAnswer = 64 << 20

const dialTimeout = 5 * time.Second

// endpoint says which broker to ask, and as whom.
type endpoint struct{ server, credential string }

// serverFlag adds --server and --credential to a command that asks a broker.
func serverFlag(cmd *cobra.Command) *endpoint {
	e := new(endpoint)
	cmd.Flags().StringVar(&e.server, "server", "", "broker, unix:PATH of its admin socket or https://host:port (default: that of the credential, else the folder ZONEBROKER_DIR)")
	cmd.Flags().StringVar(&e.credential, "credential", "", "file of a role certificate, from zonebroker operator add (default: ZONEBROKER_CREDENTIAL)")
	return e
}

// socketFlag adds --server to a command that only the admin socket answers.
func socketFlag(cmd *cobra.Command) *string {
	return cmd.Flags().String("server", "", "admin socket of the broker, unix:PATH (default: in the folder ZONEBROKER_DIR)")
}

// adminClient asks a broker through its admin socket or with a role certificate.
type adminClient struct {
	place string // for messages
	base  string // URL without path
	http  http.Client
}

// newAdminClient goes where --server says; without it a credential leads to its
// broker, and else ZONEBROKER_DIR to a socket.
func newAdminClient(e endpoint) (*adminClient, error) {
	credential := e.credential
	if credential == "" && !strings.HasPrefix(e.server, "unix:") {
		credential = os.Getenv("ZONEBROKER_CREDENTIAL")
	}
	if credential == "" {
		return newSocketClient(e.server)
	}
	if strings.HasPrefix(e.server, "unix:") {
		return nil, usageError{"--credential: the admin socket asks for no certificate"}
	}
	return newRoleClient(e.server, credential)
}

func newSocketClient(server string) (*adminClient, error) {
	socket, err := adminSocketPath(server)
	if err != nil {
		return nil, err
	}
	return &adminClient{place: socket, base: "http://admin", http: http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			c, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "unix", socket)
			if err != nil {
				return nil, &unreachable{socket, err}
			}
			return c, nil
		},
		DisableCompression: true,
	}}}, nil
}

func adminSocketPath(server string) (string, error) {
	if server != "" {
		path, ok := strings.CutPrefix(server, "unix:")
		if !ok || path == "" {
			return "", usageError{"--server: want unix:PATH of the admin socket, or https://host:port with --credential"}
		}
		return path, nil
	}
	dir := os.Getenv("ZONEBROKER_DIR")
	if dir == "" {
		return "", usageError{"name the broker: --server unix:PATH, its folder in ZONEBROKER_DIR, or a --credential"}
	}
	return filepath.Join(dir, runDir, adminSocket), nil
}

// get fills out from a route.
func (c *adminClient) get(ctx context.Context, path string, query url.Values, out any) error {
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	return c.do(ctx, http.MethodGet, path, nil, out)
}

// post sends in and fills out.
func (c *adminClient) post(ctx context.Context, path string, in, out any) error {
	body, err := api.Encode(in)
	if err != nil {
		return err
	}
	return c.do(ctx, http.MethodPost, path, body, out)
}

func (c *adminClient) do(ctx context.Context, method, path string, body []byte, out any) error {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := c.http.Do(req)
	if e, ok := errors.AsType[*unreachable](err); ok {
		return e
	}
	if e, ok := errors.AsType[unproved](err); ok {
		return e
	}
	if err != nil {
		// The broker may have died between connection and answer.
		return &unreachable{c.place, err}
	}
	defer res.Body.Close()
	data, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	if err != nil {
		return &unreachable{c.place, err}
	}
	if len(data) > maxAnswer {
		return fmt.Errorf("%s: the answer is larger than %d bytes", path, maxAnswer)
	}
	if res.StatusCode >= 300 {
		return refusal(res, data)
	}
	if err := json.Unmarshal(data, out); err != nil {
		return fmt.Errorf("%s: the answer is not of the contract; compare the versions of broker and command: %w", path, err)
	}
	return nil
}

func refusal(res *http.Response, data []byte) error {
	var e refused
	if err := json.Unmarshal(data, &e.Problem); err != nil || e.Code == "" {
		return fmt.Errorf("the broker answered %s without a problem document", res.Status)
	}
	if s, err := strconv.Atoi(res.Header.Get("Retry-After")); err == nil {
		e.retryAfter = time.Duration(s) * time.Second
	}
	return &e
}
