package agent

import (
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"

	"autoheal.dev/autoheal/internal/agent/shim"
)

// TestMain makes this binary its own shim and its own workloads.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "shim":
			os.Exit(shim.Main(os.Args[2:], os.Stderr))
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
	case "idle":
		ready()
		select {}
	case "stubborn": // ignores SIGTERM
		signal.Ignore(syscall.SIGTERM)
		ready()
		select {}
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
	case "fail":
		fmt.Fprintln(os.Stderr, "fatal: as asked")
		return 7
	}
	return 0
}

// ready tells the test that the program is where it wants it.
func ready() {
	if path := os.Getenv("READY"); path != "" {
		if err := os.WriteFile(path, []byte("ready"), 0); err != nil {
			panic(err)
		}
	}
}
