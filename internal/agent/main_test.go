package agent

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"autoheal.dev/autoheal/internal/agent/shim"
)

// TestMain makes this binary its own shim and its own workloads.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "shim":
			os.Exit(shim.Main(os.Args[2:], os.Stderr))
		case "node": // GATEWAY TOKENFILE DATA PREFIX
			if err := Run(context.Background(), Options{
				Gateway: os.Args[2], TokenFile: os.Args[3], Data: os.Args[4], Name: "n1", CgroupPrefix: os.Args[5],
				ShimCommand: []string{os.Args[0], "shim"}, SimulateGPUs: "2:H100", EphemeralFD: 3,
			}); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			os.Exit(0)
		case "workload":
			os.Exit(workload(os.Args[2:]))
		}
	}
	os.Exit(m.Run())
}

// workload is the program of the tests.
func workload(args []string) int {
	switch args[0] {
	case "env":
		fmt.Println(strings.Join(os.Environ(), "\n"))
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			return 2
		}
		fmt.Print("descriptors")
		for _, fd := range fds { // without those that Go's own runtime opens
			target, err := os.Readlink("/proc/self/fd/" + fd.Name())
			if err == nil && !strings.Contains(target, "/fd") && !strings.HasPrefix(target, "anon_inode") && !strings.HasPrefix(target, "/sys/fs/cgroup") {
				fmt.Print(" ", fd.Name())
			}
		}
		fmt.Println()
	case "idle":
		ready()
		forever()
	case "idle-then-fail": // fails at SIGINT
		interrupted := make(chan os.Signal, 1)
		signal.Notify(interrupted, os.Interrupt)
		ready()
		<-interrupted
		return 7
	case "say": // something, and fails
		fmt.Fprintln(os.Stderr, args[1])
		return 7
	case "stubborn": // ignores SIGTERM
		signal.Ignore(syscall.SIGTERM)
		ready()
		forever()
	case "eat": // uses memory until it is killed
		var kept [][]byte
		for {
			b := make([]byte, 1<<20)
			for i := 0; i < len(b); i += 4096 {
				b[i] = 1
			}
			kept = append(kept, b)
			if len(kept) == 1<<14 {
				return 3 // 16 GiB: there was no limit
			}
		}
	case "flood": // writes as fast as it can until it is stopped
		line := []byte(strings.Repeat("flood ", 100) + "\n")
		ready()
		for {
			if _, err := os.Stdout.Write(line); err != nil {
				return 4
			}
		}
	case "garbage":
		b := make([]byte, 1<<20)
		for i := range b {
			b[i] = byte(i*7 + i>>8)
		}
		if _, err := os.Stdout.Write(b); err != nil {
			return 4
		}
	case "mute": // closes its pipes and goes on
		os.Stdout.Close()
		os.Stderr.Close()
		ready()
		forever()
	case "leave": // starts a child that ignores everything and leaves it behind
		child := exec.Command(os.Args[0], "workload", "stubborn")
		child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		child.Env = os.Environ()
		if err := child.Start(); err != nil {
			return 5
		}
		os.WriteFile("child", []byte(strconv.Itoa(child.Process.Pid)), 0o600)
		if len(args) > 1 {
			forever()
		}
	case "bomb": // forks until it is refused
		for n := 0; ; n++ {
			if err := exec.Command(os.Args[0], "workload", "sit").Start(); err != nil {
				fmt.Println("refused")
				ready()
				forever()
			}
			if n > 10_000 {
				return 6
			}
		}
	case "id":
		if err := os.WriteFile("mine", []byte("x"), 0o600); err != nil {
			fmt.Println("cannot write:", err)
			return 8
		}
		fmt.Printf("uid %d gid %d\n", os.Getuid(), os.Getgid())
	case "true":
	case "sit":
		forever()
	case "hold": // uses 128 MiB and stays
		b := make([]byte, 128<<20)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		for {
			b[0]++
			forever()
		}
	case "serve": // answers on a port; from SIGUSR1 to SIGUSR2 it takes requests and answers none
		return serveUntilTold(args[1])
	case "step": // writes its steps; after SIGUSR1 something else
		stepUntilTold()
	case "fail":
		fmt.Fprintln(os.Stderr, "fatal: as asked")
		return 7
	}
	return 0
}

func stepUntilTold() {
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGUSR1)
	word := "step"
	for n := 0; ; n++ {
		select {
		case <-told:
			word = "waiting"
		case <-time.After(100 * time.Millisecond):
		}
		fmt.Println(word, n)
	}
}

func serveUntilTold(port string) int {
	told := make(chan os.Signal, 4)
	signal.Notify(told, syscall.SIGUSR1, syscall.SIGUSR2)
	var hung atomic.Bool
	go func() {
		for s := range told {
			hung.Store(s == syscall.SIGUSR1)
		}
	}()
	err := http.ListenAndServe("127.0.0.1:"+port, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if hung.Load() {
			<-r.Context().Done()
		}
		fmt.Fprintln(w, "ok")
	}))
	fmt.Fprintln(os.Stderr, err)
	return 9
}

// ready tells the test that the program is where it wants it.
func ready() {
	if path := os.Getenv("READY"); path != "" {
		if err := os.WriteFile(path, []byte("ready"), 0); err != nil {
			panic(err)
		}
	}
}

// forever waits without end. Listening for a signal that nobody sends keeps the runtime from taking the wait for a
// deadlock, which it does in a program without cgo.
func forever() {
	signal.Notify(make(chan os.Signal, 1), syscall.SIGUSR2)
	select {}
}
