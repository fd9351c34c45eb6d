package enrich

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

// bearer finds the access token of this broker: in a file, or at the metadata
// service of the cloud that it runs in.
type bearer struct {
	file     string
	metadata *caller
	request  request
	now      func() time.Time

	mu      sync.Mutex // guards what follows
	token   string
	expires time.Time
}

// tokenForm keeps line breaks and blanks out of headers.
var tokenForm = regexp.MustCompile(`^[A-Za-z0-9._~+/=-]+$`)

func newBearer(file string, now func() time.Time, e Endpoint, r request) *bearer {
	if now == nil {
		now = time.Now
	}
	e.plain = true
	return &bearer{file: file, metadata: newCaller(e), request: r, now: now}
}

// get returns a token. A kept one is changed two minutes before its end.
func (b *bearer) get(ctx context.Context) (string, error) {
	if b.file != "" {
		raw, err := secret(b.file)
		if err != nil {
			return "", err
		}
		token := strings.TrimSpace(string(raw))
		if !tokenForm.MatchString(token) {
			return "", fmt.Errorf("%s does not hold a token", b.file)
		}
		return token, nil
	}
	b.mu.Lock()
	token, expires := b.token, b.expires
	b.mu.Unlock()
	if b.now().Add(renewBefore).Before(expires) {
		return token, nil
	}
	token, lifetime, err := b.ask(ctx)
	if err != nil {
		return "", err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.token, b.expires = token, b.now().Add(lifetime)
	return token, nil
}

func (b *bearer) ask(ctx context.Context) (string, time.Duration, error) {
	r := b.request
	r.header = r.header.Clone()
	got, err := b.metadata.send(ctx, r)
	if err == nil {
		err = got.is(http.StatusOK, "application/json")
	}
	if err != nil {
		return "", 0, fmt.Errorf("metadata service: %w", err)
	}
	var in struct {
		Token   string      `json:"access_token"`
		Expires json.Number `json:"expires_in"` // Azure writes a string of digits
	}
	if err := json.Unmarshal(got.body, &in); err != nil || !tokenForm.MatchString(in.Token) {
		return "", 0, errors.New("metadata service: no token")
	}
	seconds, err := strconv.Atoi(in.Expires.String())
	if err != nil || seconds < 0 || seconds > 7*24*3600 {
		return "", 0, errors.New("metadata service: a token without an end")
	}
	return in.Token, time.Duration(seconds) * time.Second, nil
}
