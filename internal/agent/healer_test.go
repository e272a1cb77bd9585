package agent

import (
	"os"
	"path/filepath"
	"testing"
)

// A refusal renews nothing as long as one process may be the healer, even one whose files cannot be looked at.
func TestHealerGone(t *testing.T) {
	own, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	lock := filepath.Join(t.TempDir(), "lock")
	if healerGone(lock) {
		t.Error("proven without a lock file")
	}
	if err := os.WriteFile(lock, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, comm, link string
		closed           bool // its files cannot be looked at
		gone             bool
	}{
		{name: "another program", comm: "sd-pam\n", link: os.DevNull, gone: true},
		{name: "it has the lock open", comm: "other\n", link: lock},
		{name: "another program that cannot be looked at", comm: "sd-pam\n", closed: true, gone: true},
		{name: "this program, and it cannot be looked at", comm: string(own), closed: true},
		{name: "it has ended", closed: true, gone: true},
	} {
		proc := t.TempDir()
		p := filepath.Join(proc, "17")
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		must(os.Mkdir(p, 0o700))
		if tc.comm != "" {
			must(os.WriteFile(filepath.Join(p, "comm"), []byte(tc.comm), 0o600))
		}
		if tc.closed { // nobody is kept from reading a folder who is root: it is none
			must(os.WriteFile(filepath.Join(p, "fd"), nil, 0o600))
		} else {
			must(os.Mkdir(filepath.Join(p, "fd"), 0o700))
			must(os.Symlink(tc.link, filepath.Join(p, "fd", "3")))
		}
		if got := nobodyHas(lock, proc); got != tc.gone {
			t.Errorf("%s: gone %v, want %v", tc.name, got, tc.gone)
		}
	}
}
