package workloadapi_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	spiffe "github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"github.com/zonebroker/zonebroker/broker/agent/workloadapi"
	"github.com/zonebroker/zonebroker/broker/api"
)

// callerEnv makes this test binary a workload: it asks the socket that it names
// once for each line of its input and prints its SPIFFE ID or the refusal.
const callerEnv = "ZONEBROKER_TEST_CALLER"

// handEnv makes a workload open its connection and leave it to a child; serveEnv
// makes this test binary an agent with a rule for the path that it holds.
const (
	handEnv  = callerEnv + "_HANDS_ON"
	heirEnv  = callerEnv + "_HEIR_OF"
	serveEnv = callerEnv + "_SERVES"
)

// nobody is a uid that owns nothing.
const nobody = 65534

func TestMain(m *testing.M) {
	if socket := os.Getenv(callerEnv); socket != "" {
		switch {
		case os.Getenv(serveEnv) != "":
			beAgent(socket, os.Getenv(serveEnv))
		case os.Getenv(handEnv) != "":
			handOn(socket)
		default:
			beCaller(socket)
		}
		return
	}
	os.Exit(m.Run())
}

func beCaller(socket string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	options := []spiffe.ClientOption{spiffe.WithAddr("unix://" + socket)}
	if parent := os.Getenv(heirEnv); parent != "" {
		for strconv.Itoa(os.Getppid()) == parent {
			time.Sleep(time.Millisecond)
		}
		options = append(options, spiffe.WithDialOptions(grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) {
			return net.FileConn(os.NewFile(3, "heirloom"))
		})))
	}
	c, err := spiffe.New(ctx, options...)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		if svid, err := c.FetchX509SVID(ctx); err != nil {
			fmt.Printf("%s: %s\n", status.Code(err), status.Convert(err).Message())
		} else {
			fmt.Println(svid.ID)
		}
	}
}

// handOn opens a connection for a child and ends.
func handOn(socket string) {
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: socket})
	if err != nil {
		fmt.Println(err)
		return
	}
	file, err := c.File()
	if err != nil {
		fmt.Println(err)
		return
	}
	child := exec.Command(os.Args[0])
	child.Env = []string{callerEnv + "=" + socket, heirEnv + "=" + strconv.Itoa(os.Getpid())}
	child.Stdin, child.Stdout, child.Stderr, child.ExtraFiles = os.Stdin, os.Stdout, os.Stderr, []*os.File{file}
	if err := child.Start(); err != nil {
		fmt.Println(err)
	}
}

// beAgent serves until its input ends.
func beAgent(socket, path string) {
	var t quietTB
	src := newSource(t, "payments", api.Workload{Name: "checkout", Path: path})
	server, err := workloadapi.New(workloadapi.Config{Socket: socket, Source: src})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		fmt.Println("serving")
	}
	cancel()
	<-done
}

// quietTB lets the harness run outside of a test.
type quietTB struct{ testing.TB }

func (quietTB) Helper() {}

func (quietTB) Fatal(args ...any) { panic(fmt.Sprint(args...)) }

// process is a workload in a process of its own.
type process struct {
	t   *testing.T
	pid int
	in  io.Writer
	out *bufio.Scanner
}

// start runs program, a copy of this test binary, as the given user.
func start(t *testing.T, program, socket string, uid int, env ...string) *process {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program)
	cmd.Env = append([]string{callerEnv + "=" + socket}, env...)
	cmd.Dir = "/"
	cmd.Stderr = os.Stderr
	if uid != os.Geteuid() {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Wait()
	})
	return &process{t: t, pid: cmd.Process.Pid, in: in, out: bufio.NewScanner(out)}
}

// ask makes the workload ask once.
func (p *process) ask() string {
	p.t.Helper()
	if _, err := io.WriteString(p.in, "\n"); err != nil {
		p.t.Fatal(err)
	}
	if !p.out.Scan() {
		p.t.Fatalf("the workload ended: %v", p.out.Err())
	}
	return p.out.Text()
}

// program copies this test binary to a folder that every user can read.
func program(t *testing.T, name string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "zbp")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, name)
	copyFile(t, self, path)
	return path
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	text, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, text, 0o755); err != nil {
		t.Fatal(err)
	}
}
