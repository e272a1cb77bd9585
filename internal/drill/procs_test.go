package drill

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"autoheal.dev/autoheal/internal/clock"
)

// fixedClock stands still; its timers fire at once.
type fixedClock struct{}

func (fixedClock) Now() time.Time { return time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC) }

func (fixedClock) NewTimer(time.Duration) clock.Timer { return clock.Real{}.NewTimer(0) }

// plant writes a made-up process.
func plant(t *testing.T, root string, pid, parent int, stat string, argv, env []string) {
	t.Helper()
	dir := filepath.Join(root, strconv.Itoa(pid))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"stat":    fmt.Sprintf("%d (a) b) %s %d 1 1 0 -1 4 0 0 0 0 0 0 0 0 20 0 1 0 %d 0 0", pid, stat, parent, 1000+pid),
		"cmdline": strings.Join(argv, "\x00") + "\x00", "environ": strings.Join(env, "\x00") + "\x00",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func workloadEnv(data, node, id, attempt string) []string {
	return []string{"HOME=" + data + "/agents/" + node + "/wl/" + id + "/" + attempt + "/work", "AUTOHEAL_WORKLOAD=" + id, "AUTOHEAL_NODE=" + node, "AUTOHEAL_ATTEMPT=" + attempt}
}

func TestFindsItsOwnProcessesOnly(t *testing.T) {
	root := t.TempDir()
	const data = "/tmp/autoheal-drill-1/data"
	plant(t, root, 10, 1, "S", []string{"/bin/autoheal", "up", "--data", data, "--nodes", "3"}, nil)
	plant(t, root, 11, 10, "S", []string{"/bin/autoheal", "node", "--data", data, "--name", "n1"}, nil)
	plant(t, root, 12, 11, "T", []string{"/bin/autoheal", "shim", "--dir", data + "/agents/n1/wl/wl-000001/2"}, nil)
	plant(t, root, 14, 12, "S", []string{"sleep", "9"}, workloadEnv(data, "n1", "wl-000001", "2"))
	plant(t, root, 15, 14, "S", []string{"sleep", "9"}, workloadEnv(data, "n1", "wl-000001", "2")) // its child
	plant(t, root, 13, 12, "Z", []string{"sleep"}, workloadEnv(data, "n1", "wl-000001", "2"))      // ended
	// Others: the same program and names in another directory, the directory as a mere word, a longer one.
	other := data + "-2"
	plant(t, root, 20, 1, "S", []string{"/bin/autoheal", "up", "--data", other}, nil)
	plant(t, root, 21, 20, "S", []string{"/bin/autoheal", "node", "--data", other, "--name", "n1"}, nil)
	plant(t, root, 22, 21, "S", []string{"/bin/autoheal", "shim", "--dir", other + "/agents/n1/wl/wl-000001/1"}, nil)
	plant(t, root, 23, 22, "S", []string{"sleep", "9"}, workloadEnv(other, "n1", "wl-000001", "1"))
	plant(t, root, 24, 1, "S", []string{"vi", data + "/agents/n1.log"}, []string{"HOME=/root", "AUTOHEAL_WORKLOAD=wl-000001"})
	plant(t, root, 25, 1, "S", []string{"/bin/autoheal", "drill", "janitor", "--dir", "/tmp/autoheal-drill-1"}, nil)
	plant(t, root, 26, 1, "S", []string{"/bin/autoheal", "journal", "show", "--data", data}, nil)

	all, err := procFS{root}.find(data)
	if err != nil {
		t.Fatal(err)
	}
	want := []process{
		{PID: 10, Parent: 1, Start: 1010, Role: roleUp},
		{PID: 11, Parent: 10, Start: 1011, Role: roleAgent, Node: "n1"},
		{PID: 12, Parent: 11, Start: 1012, Role: roleShim, Node: "n1", Workload: "wl-000001", Attempt: 2},
		{PID: 14, Parent: 12, Start: 1014, Role: roleWorkload, Node: "n1", Workload: "wl-000001", Attempt: 2},
		{PID: 15, Parent: 14, Start: 1015, Role: roleWorkload, Node: "n1", Workload: "wl-000001", Attempt: 2},
	}
	if fmt.Sprint(all) != fmt.Sprint(want) {
		t.Errorf("found\n%+v, want\n%+v", all, want)
	}
	if got := mains(all); len(got) != 1 || got["wl-000001"].PID != 14 {
		t.Errorf("main processes %+v, want 14", got)
	}
}

func TestMainIsTheNewestAttemptsOldest(t *testing.T) {
	all := []process{
		{PID: 1, Role: roleShim},
		{PID: 2, Role: roleShim},
		{PID: 3, Parent: 1, Start: 5, Role: roleWorkload, Workload: "w", Attempt: 1},
		{PID: 4, Parent: 2, Start: 9, Role: roleWorkload, Workload: "w", Attempt: 2},
		{PID: 5, Parent: 2, Start: 8, Role: roleWorkload, Workload: "w", Attempt: 2},
	}
	if got := mains(all)["w"].PID; got != 5 {
		t.Errorf("got %d, want 5", got)
	}
}

func TestSignalSparesARecycledNumber(t *testing.T) {
	p := procFS{"/proc"}
	me, ok := parseStat(readAll("/proc/self/stat"))
	if !ok {
		t.Fatal("cannot read this process")
	}
	stranger := process{PID: os.Getpid(), Start: me.Start + 1, Role: roleWorkload}
	if err := p.signal(stranger, syscall.SIGKILL); err != nil { // we would not live to see it
		t.Error(err)
	}
	if err := p.signal(process{PID: os.Getpid(), Start: me.Start}, 0); err != nil {
		t.Error(err)
	}
}

func TestParseStatRefusesWhatIsNotOne(t *testing.T) {
	for _, text := range []string{"", "1 (x", "1 (x) S", "1 (x) S one 1 1 0 -1 4 0 0 0 0 0 0 0 0 20 0 1 0 77"} {
		if p, ok := parseStat([]byte(text)); ok {
			t.Errorf("%q was read as %+v", text, p)
		}
	}
}

func TestProductEnvironment(t *testing.T) {
	got := productEnv([]string{"PATH=/bin", "AUTOHEAL_NODE_OFFLINE_GRACE_PERIOD=1h", "AUTOHEAL_TEST_RUN=r", "AUTOHEAL_CRASH_AT=record:3"})
	if fmt.Sprint(got) != "[PATH=/bin AUTOHEAL_TEST_RUN=r]" {
		t.Errorf("got %v", got)
	}
}
