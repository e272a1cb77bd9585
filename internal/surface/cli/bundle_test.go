package cli

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"autoheal.dev/autoheal/internal/tool"
)

// TestPack: a bundle unpacks into one folder, for its owner only, and the same bundle gives the same bytes.
func TestPack(t *testing.T) {
	v := tool.BundleOut{Name: "autoheal-inc-000001", At: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Files: []tool.BundleFile{
		{Name: "README.txt", Text: "hello"}, {Name: "evidence/01-n1/kernel.txt", Text: "Xid"},
	}}
	packed, err := pack(v)
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := pack(v); !bytes.Equal(packed, again) {
		t.Error("the same bundle gives other bytes")
	}
	zip, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	got, r := map[string]string{}, tar.NewReader(zip)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil || h.Mode != 0o600 || !h.ModTime.Equal(v.At) {
			t.Errorf("%s: mode %o, of %s: %v", h.Name, h.Mode, h.ModTime, err)
		}
		got[h.Name] = string(text)
	}
	if len(got) != 2 || got["autoheal-inc-000001/README.txt"] != "hello" || got["autoheal-inc-000001/evidence/01-n1/kernel.txt"] != "Xid" {
		t.Errorf("unpacked: %q", got)
	}
	for _, name := range []string{"../x", "/etc/passwd", "a/../../x", ".", "", "a//b"} {
		if _, err := pack(tool.BundleOut{Files: []tool.BundleFile{{Name: name}}}); err == nil {
			t.Errorf("a file called %q was packed", name)
		}
	}
}

// TestWriteWhole: what was there is replaced whole, and a failure leaves nothing behind.
func TestWriteWhole(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "b.tar.gz")
	for _, text := range []string{"first, longer", "second"} {
		if err := writeWhole(file, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(file); err != nil || string(got) != text {
			t.Errorf("got %q, %v", got, err)
		}
	}
	if st, err := os.Stat(file); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	if err := os.Mkdir(filepath.Join(dir, "folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := writeWhole(filepath.Join(dir, "folder"), nil); err == nil {
		t.Error("a folder was written over")
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 2 {
		t.Errorf("left: %v, %v", left, err)
	}
}
