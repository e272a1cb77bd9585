package archtest

import (
	"bufio"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRepository holds this repository to every rule.
func TestRepository(t *testing.T) {
	root := moduleRoot(t)
	tree, err := Load(os.DirFS(root), modulePath(t, root))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(tree.packages()); n < 5 {
		t.Fatalf("found %d packages below %s: the rules would hold for want of anything to judge", n, root)
	}
	for _, v := range Check(tree, Allowed) {
		t.Error(v)
	}
}

// moduleRoot walks up from the folder of this package to the one that holds go.mod.
func moduleRoot(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("no go.mod above this package")
		}
		dir = filepath.Dir(dir)
	}
}

func modulePath(t *testing.T, root string) string {
	t.Helper()
	f, err := os.Open(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if path, ok := strings.CutPrefix(lines.Text(), "module "); ok {
			return strings.TrimSpace(path)
		}
	}
	t.Fatalf("go.mod names no module (%v)", lines.Err())
	return ""
}
