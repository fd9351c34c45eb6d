package metadata_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker/agent/collect"
	"github.com/zonebroker/zonebroker/broker/agent/collect/metadata"
	"github.com/zonebroker/zonebroker/broker/agent/collect/metadatatest"
)

func service(t *testing.T, cfg metadata.Config) *metadata.Service {
	t.Helper()
	s, err := metadata.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestEachPlatformIsKnownByItsService(t *testing.T) {
	for want, url := range map[metadata.Platform]string{
		metadata.AWS:    metadatatest.AWS(t, nil).URL,
		metadata.Google: metadatatest.Google(t, nil).URL,
		metadata.Azure:  metadatatest.Azure(t, nil).URL,
	} {
		s := service(t, metadata.Config{URL: url})
		if got, err := s.Platform(t.Context()); err != nil || got != want {
			t.Errorf("%s: found %q, %v", want, got, err)
		}
		for _, other := range []metadata.Platform{metadata.AWS, metadata.Google, metadata.Azure} {
			if err := s.Require(t.Context(), other); (err == nil) != (other == want) {
				t.Errorf("%s required on %s: %v", other, want, err)
			}
		}
	}
}

func TestPlatformIsAskedForOnce(t *testing.T) {
	server := metadatatest.Azure(t, nil)
	now := time.Unix(1_800_000_000, 0)
	s := service(t, metadata.Config{URL: server.URL, Now: func() time.Time { return now }})
	for range 3 {
		if _, err := s.Platform(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	asked := len(server.Asked())
	now = now.Add(2 * time.Hour)
	if _, err := s.Platform(t.Context()); err != nil || len(server.Asked()) != 2*asked {
		t.Errorf("%d requests, then %d: %v", asked, len(server.Asked()), err)
	}
}

// The firmware of a machine of no cloud is believed, and nobody on its network is
// asked.
func TestFirmwareDecidesWhoseMachineItIs(t *testing.T) {
	for name, c := range map[string]struct {
		tables map[string]string
		want   metadata.Platform
	}{
		"nitro":       {map[string]string{"sys_vendor": "Amazon EC2\n", "bios_vendor": "Amazon EC2\n"}, metadata.AWS},
		"xen":         {map[string]string{"sys_vendor": "Xen\n", "bios_version": "4.11.amazon\n"}, metadata.AWS},
		"google":      {map[string]string{"sys_vendor": "Google\n", "product_name": "Google Compute Engine\n"}, metadata.Google},
		"azure":       {map[string]string{"sys_vendor": "Microsoft Corporation\n", "chassis_asset_tag": "7783-7084-3265-9085-8269-3286-77\n"}, metadata.Azure},
		"hyper-v":     {map[string]string{"sys_vendor": "Microsoft Corporation\n", "chassis_asset_tag": "1234\n"}, ""},
		"bare metal":  {map[string]string{"sys_vendor": "Dell Inc.\n"}, ""},
		"other xen":   {map[string]string{"sys_vendor": "Xen\n", "bios_version": "4.17\n"}, ""},
		"google disk": {map[string]string{"sys_vendor": "Google\n", "product_name": "Caroline\n"}, ""},
	} {
		root := t.TempDir()
		folder := filepath.Join(root, "sys/class/dmi/id")
		if err := os.MkdirAll(folder, 0o755); err != nil {
			t.Fatal(err)
		}
		for table, text := range c.tables {
			if err := os.WriteFile(filepath.Join(folder, table), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := service(t, metadata.Config{Root: root}).Platform(t.Context())
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		if c.want == "" && !strings.Contains(err.Error(), strings.TrimSpace(c.tables["sys_vendor"])) {
			t.Errorf("%s: the error does not name the vendor: %v", name, err)
		}
	}
}

func TestAWSTokenIsKeptAndRenewed(t *testing.T) {
	server := metadatatest.AWS(t, map[string]metadatatest.Answer{"/x": metadatatest.Text("y")})
	now := time.Unix(1_800_000_000, 0)
	s := service(t, metadata.Config{URL: server.URL, Now: func() time.Time { return now }})
	get := func() {
		t.Helper()
		if body, err := s.GetAWS(t.Context(), "/x", 10); err != nil || string(body) != "y" {
			t.Fatalf("%q, %v", body, err)
		}
	}
	get()
	get()
	if n := server.Tokens(); n != 1 {
		t.Errorf("%d tokens for two questions", n)
	}
	now = now.Add(time.Hour)
	get()
	if n := server.Tokens(); n != 2 {
		t.Errorf("%d tokens after the first one ended", n)
	}
}

// A service that forgot its tokens, as after stop and start, is asked for a new one
// once, and not for ever.
func TestAWSTokenThatIsRefusedIsReplacedOnce(t *testing.T) {
	tokens, asked := 0, 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			tokens++
			fmt.Fprintf(w, "t%d", tokens)
			return
		}
		asked++
		if r.Header.Get("X-aws-ec2-metadata-token") == "t1" || r.URL.Path == "/never" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		fmt.Fprint(w, "y")
	}))
	defer server.Close()
	s := service(t, metadata.Config{URL: server.URL})
	if body, err := s.GetAWS(t.Context(), "/x", 10); err != nil || string(body) != "y" || tokens != 2 {
		t.Errorf("%q with %d tokens: %v", body, tokens, err)
	}
	asked = 0
	if _, err := s.GetAWS(t.Context(), "/never", 10); metadata.Status(err) != http.StatusUnauthorized || asked != 2 {
		t.Errorf("asked %d times: %v", asked, err)
	}
}

// What answers at the address is not trusted.
func TestHostileService(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("a redirect was followed")
	}))
	defer elsewhere.Close()
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		want   func(error) bool
	}{
		"redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
		}, func(err error) bool { return metadata.Status(err) == http.StatusTemporaryRedirect }},
		"huge": {func(w http.ResponseWriter, _ *http.Request) {
			for range 1 << 10 {
				fmt.Fprint(w, strings.Repeat("x", 1<<10))
			}
		}, func(err error) bool { return errors.Is(err, collect.ErrTooLarge) }},
		"huge header": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Much", strings.Repeat("x", 1<<20))
		}, func(err error) bool { return err != nil }},
		"slow": {func(_ http.ResponseWriter, r *http.Request) {
			<-r.Context().Done()
		}, func(err error) bool { return errors.Is(err, context.DeadlineExceeded) }},
		"no header": {func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, "id")
		}, func(err error) bool { return err != nil && strings.Contains(err.Error(), "not Google's") }},
		"wrong header": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Metadata-Flavor", "google")
			fmt.Fprint(w, "id")
		}, func(err error) bool { return err != nil && strings.Contains(err.Error(), "not Google's") }},
		"hangs up": {func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				conn.Close()
			}
		}, func(err error) bool { return err != nil && metadata.Status(err) == 0 }},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(c.answer)
			defer server.Close()
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			defer cancel()
			body, err := service(t, metadata.Config{URL: server.URL}).GetGoogle(ctx, "/x", nil, 1<<10)
			if !c.want(err) || len(body) > 0 {
				t.Errorf("%d bytes, %v", len(body), err)
			}
		})
	}
}

// A token with a line break in it would end the header.
func TestTokenThatIsNone(t *testing.T) {
	for _, token := range []string{"", "a b", "a\nHost: evil", "\x00", "ü"} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, token) }))
		if _, err := service(t, metadata.Config{URL: server.URL}).GetAWS(t.Context(), "/x", 10); err == nil {
			t.Errorf("%q was taken as a token", token)
		}
		server.Close()
	}
}

func TestBusyServiceIsAskedAgain(t *testing.T) {
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked++; asked < 3 {
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		fmt.Fprint(w, "ok")
	}))
	defer server.Close()
	s := service(t, metadata.Config{URL: server.URL})
	if body, err := s.GetAzure(t.Context(), "/x", nil, 10); err != nil || string(body) != "ok" {
		t.Errorf("%q, %v", body, err)
	}
	asked = -100
	if _, err := s.GetAzure(t.Context(), "/x", nil, 10); metadata.Status(err) != http.StatusTooManyRequests || asked != -97 {
		t.Errorf("%d tries: %v", asked+100, err)
	}
}

// The nonce of a challenge and the tokens of a service stay out of texts that go
// into logs.
func TestErrorsDoNotRepeatTheQuestion(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	server.Close()
	_, err := service(t, metadata.Config{URL: server.URL}).GetAzure(t.Context(), "/x", map[string][]string{"nonce": {"SECRET"}}, 10)
	if err == nil || strings.Contains(err.Error(), "SECRET") {
		t.Errorf("%v", err)
	}
}

func TestAddressOfATestServer(t *testing.T) {
	for _, url := range []string{"https://127.0.0.1", "http://", "http://u:p@127.0.0.1", "http://127.0.0.1/x", "http://127.0.0.1?x", "127.0.0.1:80", "http://[::1"} {
		if _, err := metadata.New(metadata.Config{URL: url}); err == nil {
			t.Errorf("%s was taken", url)
		}
	}
	for _, url := range []string{"http://127.0.0.1:8080", "http://127.0.0.1:8080/", "http://[::1]:80"} {
		if _, err := metadata.New(metadata.Config{URL: url}); err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
}
