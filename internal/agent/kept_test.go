package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/agent/shim"
	"autoheal.dev/autoheal/internal/nodeproto"
)

// keep makes the folder of an ended attempt with one line of output and gives it to k.
func keep(t *testing.T, k *keptOutput, workload string, attempt int) {
	t.Helper()
	dir := t.TempDir()
	line := fmt.Sprintf("%s0\n%s says %d\n", shim.LogHeader, workload, attempt)
	if err := os.WriteFile(filepath.Join(dir, shim.LogFile+".0"), []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := k.keep(key{autoheal.WorkloadID(workload), attempt}, dir, keptTimes{BootID: "b"}); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("%v was left behind", left)
	}
}

func TestKeptOutputIsBounded(t *testing.T) {
	k := &keptOutput{dir: filepath.Join(t.TempDir(), "kept")}
	if err := k.open(); err != nil {
		t.Fatal(err)
	}
	for n := range keptPerWorkload + 2 {
		keep(t, k, "wl-1.a", n+1)
	}
	keep(t, k, "wl-2", 1)
	again := &keptOutput{dir: k.dir}
	if err := again.open(); err != nil {
		t.Fatal(err)
	}
	for name, k := range map[string]*keptOutput{"this life": k, "the next": again} {
		if len(k.entries) != keptPerWorkload+1 || k.bytes == 0 {
			t.Errorf("%s: %d entries of %d bytes", name, len(k.entries), k.bytes)
		}
		for want, of := range map[bool]key{false: {"wl-1.a", 2}, true: {"wl-1.a", 3}} {
			if found, times, chunks, ok, err := k.read(of); ok != want || err != nil || ok && (found != of || times.BootID != "b" || len(chunks) != 1) {
				t.Errorf("%s: %v is %v %v %v, %v, %v", name, of, found, times, chunks, ok, err)
			}
		}
		if found, _, _, ok, _ := k.read(key{"wl-1.a", 0}); !ok || found.attempt != keptPerWorkload+2 {
			t.Errorf("%s: the newest is %v, %v", name, found, ok)
		}
	}
	again.bytes = keptBytes + 1
	keep(t, again, "wl-3", 1)
	if _, _, _, ok, _ := again.read(key{"wl-1.a", 3}); ok {
		t.Error("the oldest stays though the sum is above the bound")
	}
	if _, _, _, ok, _ := again.read(key{"wl-3", 1}); !ok {
		t.Error("the newest went though an older one was there")
	}
}

// TestRealForgottenOutputIsRead covers what a person does who is told to look for the cause in the output of a workload.
func TestRealForgottenOutputIsRead(t *testing.T) {
	opts := testOptions(t)
	n := startNode(t, opts)
	n.start(n.request("fails", 1, "fail"))
	n.waitFor("fails", 1, exited)
	n.stop("fails", 1, nodeproto.StopRequest{Forget: true})
	if _, err := os.Stat(n.attemptDir(key{"fails", 1})); !os.IsNotExist(err) {
		t.Errorf("the folder of the attempt, which holds its environment: %v", err)
	}
	look := func(n *testNode, attempt int) {
		t.Helper()
		r, err := n.doLogs(n.ctx, nodeproto.LogsRequest{Workload: "fails", Attempt: attempt})
		if err != nil || len(r.Lines) != 1 || r.Lines[0].Message != "fatal: as asked" || r.Lines[0].Attempt != 1 || r.Lines[0].AgeMS > patience.Milliseconds() {
			t.Errorf("%+v, %v", r, err)
		}
	}
	look(n, 1)
	look(n, 0)
	n.halt()
	again := startNode(t, opts)
	look(again, 1)
	if _, err := again.doLogs(again.ctx, nodeproto.LogsRequest{Workload: "fails", Attempt: 2}); err == nil {
		t.Error("an attempt that never was has output")
	}
}
