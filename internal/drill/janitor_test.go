package drill

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"autoheal.dev/autoheal/internal/clock"
)

func TestJanitorRefusesWhatIsNoDrills(t *testing.T) {
	dir := t.TempDir()
	for _, j := range []Janitor{
		{},
		{Dir: "/"},
		{Dir: dir, Cgroup: "autoheal-drill-1"},
		{Dir: "autoheal-drill-1", Cgroup: "autoheal-drill-1"},
		{Dir: filepath.Join(dir, "autoheal-drill-1"), Cgroup: "system.slice"},
	} {
		j.Clock, j.Proc = fixedClock{}, t.TempDir()
		if err := j.Serve(strings.NewReader("")); err == nil {
			t.Errorf("%+v cleaned up", j)
		}
	}
	if _, err := os.Stat(dir); err != nil {
		t.Error(err)
	}
}

func TestJanitorKeepsFilesWhenAsked(t *testing.T) {
	for word, want := range map[string]bool{"": false, keepWord: true} {
		dir := filepath.Join(t.TempDir(), CgroupPrefix+"1")
		if err := os.MkdirAll(filepath.Join(dir, "data"), 0o700); err != nil {
			t.Fatal(err)
		}
		j := Janitor{Dir: dir, Cgroup: CgroupPrefix + "1", Clock: fixedClock{}, Proc: t.TempDir()}
		if err := j.Serve(strings.NewReader(word)); err != nil {
			t.Fatal(err)
		}
		if got, err := exists(dir); err != nil || got != want {
			t.Errorf("after %q the files exist: %v (%v), want %v", word, got, err, want)
		}
	}
}

// TestCgroupTree uses plain folders in place of a mounted hierarchy.
func TestCgroupTree(t *testing.T) {
	v1, v2 := t.TempDir(), filepath.Join(t.TempDir(), "a b")
	for _, d := range []string{
		filepath.Join(v1, "autoheal-drill-1", "n1", "wl-1.1"), filepath.Join(v1, "autoheal-drill-10"), filepath.Join(v2, "user", "autoheal-drill-1", "n1"),
	} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	info := "31 1 0:1 / " + v1 + " rw - cgroup cgroup rw,memory\n" + "32 1 0:2 / " + strings.ReplaceAll(v2, " ", `\040`) + " rw shared:1 - cgroup2 cgroup2 rw\n" +
		"33 1 0:3 / /tmp rw - tmpfs tmpfs rw\nnonsense\n"
	proc := t.TempDir()
	if err := os.MkdirAll(filepath.Join(proc, "self"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(proc, "self", "mountinfo"), []byte(info), 0o600); err != nil {
		t.Fatal(err)
	}
	want := []string{filepath.Join(v1, "autoheal-drill-1"), filepath.Join(v2, "user", "autoheal-drill-1")}
	if got := findCgroups(info, "autoheal-drill-1"); !slices.Equal(got, want) {
		t.Errorf("found %q, want %q", got, want)
	}
	j := Janitor{Cgroup: "autoheal-drill-1", Clock: clock.Real{}, Proc: proc}
	if err := j.removeCgroups(); err != nil {
		t.Fatal(err)
	}
	if got := findCgroups(info, "autoheal-drill-1"); len(got) > 0 {
		t.Errorf("left %q", got)
	}
	if ok, _ := exists(filepath.Join(v1, "autoheal-drill-10")); !ok {
		t.Error("another drill's group is gone")
	}
}
