package claw

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/agent"
	"autoheal.dev/autoheal/internal/agent/shim"
	"autoheal.dev/autoheal/internal/clock"
	"autoheal.dev/autoheal/internal/driver/drivertest"
	"autoheal.dev/autoheal/internal/gateway"
	"autoheal.dev/autoheal/internal/leakcheck"
	"autoheal.dev/autoheal/internal/nodeproto"
	"autoheal.dev/autoheal/internal/store"
)

// TestMain makes this binary the shim and the workload of the real fleet.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "shim":
			os.Exit(shim.Main(os.Args[2:], os.Stderr))
		case "workload":
			os.Exit(workloadMain(os.Args[2]))
		}
	}
	os.Exit(m.Run())
}

// workloadMain runs until somebody writes to its fifo, then exits with 3.
func workloadMain(dir string) int {
	fmt.Println("up")
	path := filepath.Join(dir, os.Getenv("AUTOHEAL_WORKLOAD")+"."+os.Getenv("AUTOHEAL_ATTEMPT"))
	if err := unix.Mkfifo(path, 0o600); err != nil && !errors.Is(err, fs.ErrExist) {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if _, err := os.ReadFile(path); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 3
}

const nodeToken = "a-token-of-the-tests"

// testLog writes to the test's output, which is shown when it fails.
func testLog(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), nil))
}

// realFleet is the driver over the embedded gateway with three agents, shims and processes of this machine.
func realFleet(t *testing.T) drivertest.Harness {
	t.Helper()
	dir := t.TempDir()
	scope := leakcheck.Scope{Run: t.Name()}
	t.Setenv(leakcheck.MarkerEnv, t.Name())
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		leaks, err := scope.Settle(ctx, clock.Real{})
		if err != nil || len(leaks) > 0 {
			t.Errorf("left behind: %v %v", leaks, err)
		}
	})
	g := gateway.New(gateway.Options{
		Listen: "127.0.0.1:0", Token: nodeToken, AllowCommands: nodeproto.Commands(),
		Logger: testLog(t),
	})
	if err := g.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := g.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	opts := driverOptions(g.Operator(), openRegistry(t, dir, store.Options{}), 7)
	opts.Logger = testLog(t)
	d := startDriver(t, opts)
	token := filepath.Join(dir, "token")
	if err := os.WriteFile(token, []byte(nodeToken+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	h := drivertest.Harness{Cluster: d, Workloads: d, Epoch: 7, GPUs: 2}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		name := fmt.Sprintf("n%d", i+1)
		h.Nodes = append(h.Nodes, autoheal.NodeID(name))
		realAgent(t, agent.Options{
			Gateway: g.URL(), TokenFile: token, Data: dir, Name: name, Version: "test", ShimCommand: []string{exe, "shim"},
			SimulateGPUs: "2:H100", CgroupPrefix: "none", Engines: []string{filepath.Join(dir, "no.sock")}, KernelLog: os.DevNull,
		})
	}
	fifos := filepath.Join(dir, "fifos")
	if err := os.Mkdir(fifos, 0o700); err != nil {
		t.Fatal(err)
	}
	mine := func(s autoheal.Spec) autoheal.Spec {
		s.Command, s.MemoryMB, s.CPUCores = []string{exe, "workload", fifos}, 64, 0
		s.Env = map[string]string{leakcheck.MarkerEnv: t.Name()}
		return s
	}
	h.Service = func(name string) autoheal.Spec { return mine(service(name)) }
	h.Job = func(name string) autoheal.Spec { return mine(job(name)) }
	h.Crash = func(id autoheal.WorkloadID, n int) {
		path := filepath.Join(fifos, fmt.Sprintf("%s.%d", id, n))
		if err := unix.Mkfifo(path, 0o600); err != nil && !errors.Is(err, fs.ErrExist) {
			t.Error(err)
		}
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil { // waits until the program reads
			t.Error(err)
		}
	}
	return h
}

// realAgent runs an agent whose workloads end with it: closing the pipe is the death of its parent.
func realAgent(t *testing.T, o agent.Options) {
	t.Helper()
	var fds [2]int // plain descriptors: the agent takes the first one over
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	o.EphemeralFD = fds[0]
	o.Logger = testLog(t)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := agent.Run(context.Background(), o); err != nil {
			t.Errorf("agent %s: %v", o.Name, err)
		}
	})
	t.Cleanup(func() {
		_ = unix.Close(fds[1])
		wg.Wait()
	})
}

// TestRealConformance runs the suite with real processes. What cannot be broken here is skipped by name; the drills
// break it.
func TestRealConformance(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	drivertest.Run(t, realFleet, drivertest.Brisk(300*time.Millisecond))
}
