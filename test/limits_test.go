package test

import (
	"crypto/tls"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
)

// TestIdleLimit: the broker's folder says how long a connection without requests
// is kept.
func TestIdleLimit(t *testing.T) {
	c := newCluster(t)
	c.append(t, "zonebroker.yaml", "limits: {idle: 1s}\n")
	p := c.start(t)
	defer p.kill()
	conn, err := tls.Dial("tcp", strings.TrimPrefix(p.url, "https://"), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
	must(t, err)
	defer conn.Close()
	_, err = fmt.Fprint(conn, "GET /healthz/live HTTP/1.1\r\nHost: x\r\n\r\n")
	must(t, err)
	must(t, conn.SetReadDeadline(time.Now().Add(8*time.Second))) // the default is ten
	answer, err := io.ReadAll(conn)
	if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 200") {
		t.Errorf("%q, %v", answer, err)
	}
}
