package workloadapi_test

import (
	"context"
	"log"
	"net/http"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	spiffe "github.com/spiffe/go-spiffe/v2/workloadapi"
)

// A workload serves those of its own zone, on whichever hosts they run, and
// nobody else. It holds no file and no password: the agent of its host vouches
// for it, and renews what it holds.
func Example() {
	ctx := context.Background()
	source, err := spiffe.NewX509Source(ctx, spiffe.WithClientOptions(spiffe.WithAddr("unix:///run/zoneagent/workload.sock")))
	if err != nil {
		log.Fatal(err)
	}
	defer source.Close()

	inZone := tlsconfig.AuthorizeIDPrefix(spiffeid.RequireFromString("spiffe://example.org/zone/payments"))
	server := &http.Server{
		Addr:      ":8443",
		TLSConfig: tlsconfig.MTLSServerConfig(source, source, inZone),
	}
	log.Fatal(server.ListenAndServeTLS("", ""))
}
