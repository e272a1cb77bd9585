package sqlite_test

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"autoheal.dev/autoheal/internal/journal/journaltest"
	"autoheal.dev/autoheal/internal/journal/sqlite"
	"autoheal.dev/autoheal/internal/leakcheck"
	"autoheal.dev/autoheal/internal/store"
)

var killPath = flag.String("sqlite.append", "", "append to this journal until killed")

// TestMain lets the test program be the child process of TestRealKill.
func TestMain(m *testing.M) {
	flag.Parse()
	if *killPath == "" {
		// Every round of TestLikeTheMemoryStore works on files; -rapid.checks asks for more of them.
		if checks := flag.Lookup("rapid.checks"); checks.Value.String() == checks.DefValue {
			_ = checks.Value.Set("15")
		}
		os.Exit(m.Run())
	}
	fmt.Println(appendUntilKilled(context.Background(), *killPath))
	os.Exit(1)
}

// appendUntilKilled acknowledges every step on standard output, after Append returned.
func appendUntilKilled(ctx context.Context, path string) error {
	db, err := store.Open(ctx, path, store.Options{})
	if err != nil {
		return err
	}
	s, err := sqlite.Open(ctx, db, sqlite.Options{})
	if err != nil {
		return err
	}
	b := journaltest.NewBuilder()
	b.Head = s.Head()
	b.Head.Epoch++
	for n := 1; ; n++ {
		if n%40 == 0 {
			err = s.Compact(ctx, b.Snapshot(fmt.Sprint(b.Head.Seq+1)), b.Now)
		} else {
			err = s.Append(ctx, b.Filler(1)[0])
		}
		if err != nil {
			return err
		}
		fmt.Println("ack", b.Head.Seq)
	}
}

// TestRealKill kills a process that appends and compacts, at some acknowledgement and wherever it has got to by then. What
// was acknowledged is there, and only whole steps are. That a commit also survives the loss of power cannot be shown
// here: it rests on SQLite's synchronous=FULL, which TestOpenIsDurable of internal/store checks.
func TestRealKill(t *testing.T) {
	leakcheck.Start(t)
	path := filepath.Join(t.TempDir(), "data", "state.db")
	rnd := rand.New(rand.NewPCG(1, 2))
	var before uint64
	for round := range 8 {
		acked := killAfter(t, path, 1+rnd.IntN(120))
		if acked <= before {
			t.Fatalf("round %d: acknowledged up to %d, the round before %d", round, acked, before)
		}
		before = examine(t, path, acked)
	}
}

// killAfter starts the child, kills it after n acknowledgements and returns the last one that it gave.
func killAfter(t *testing.T, path string, n int) (acked uint64) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-sqlite.append="+path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	for i := 0; ; i++ {
		line, err := lines.ReadString('\n')
		if err == io.EOF { // also of a line cut off by the kill: not acknowledged
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Sscanf(line, "ack %d\n", &acked); err != nil {
			t.Fatalf("the child says %q", line)
		}
		if i == n {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err == nil || cmd.ProcessState.Exited() {
		t.Fatalf("the child was not killed: %v", cmd.ProcessState)
	}
	return acked
}

// examine opens the journal as the next life would, and returns its end.
func examine(t *testing.T, path string, acked uint64) uint64 {
	t.Helper()
	h := &harness{path: path}
	h.open(t)
	defer h.close(t)
	if n := h.s.Notices(); len(n) != 0 {
		t.Errorf("notices after a kill: %q", n)
	}
	records := journaltest.Replayed(t, h.s)
	if len(records) == 0 {
		t.Fatal("the journal is empty")
	}
	end := records[len(records)-1].Seq
	if end < acked {
		t.Errorf("the journal ends with record %d, but %d was acknowledged", end, acked)
	}
	parts := map[uint64]int{}
	for i, r := range records {
		if r.Seq != records[0].Seq+uint64(i) {
			t.Errorf("record %d follows %d", r.Seq, records[i-1].Seq)
		}
		parts[r.Step]++
	}
	for step, n := range parts {
		if n != 2 && !(n == 1 && step == records[0].Step && records[0].Type == "snapshot") {
			t.Errorf("step %d has %d records", step, n)
		}
	}
	return end
}
