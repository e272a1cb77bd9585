package store_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"autoheal.dev/autoheal/internal/leakcheck"
	"autoheal.dev/autoheal/internal/store"
	"autoheal.dev/autoheal/internal/store/storetest"
)

func TestBackup(t *testing.T) {
	db := openItems(t, store.Options{})
	if err := db.Write(t.Context(), put("before")); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "copy 'of' it.db")
	if err := db.Backup(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	if err := db.Write(t.Context(), put("later")); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode of the copy: %v, %v", info.Mode(), err)
	}
	if err := db.Backup(t.Context(), path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a second copy to the same path: error = %v, want ErrExist", err)
	}
	dir := filepath.Join(t.TempDir(), "data")
	if err := errors.Join(os.Mkdir(dir, 0o700), os.Rename(path, filepath.Join(dir, "state.db"))); err != nil {
		t.Fatal(err)
	}
	restored := open(t, filepath.Join(dir, "state.db"), store.Options{})
	if err := restored.Migrate(t.Context(), "items", itemsTable); err != nil {
		t.Fatal(err)
	}
	if err := restored.Write(t.Context(), put("own")); err != nil {
		t.Fatal(err)
	}
	if got := names(t, restored); got != "before own" {
		t.Errorf("the copy holds %q, want before and own", got)
	}
}

func TestRealBackupToFullDisk(t *testing.T) {
	leakcheck.Start(t)
	if !storetest.InNamespace(t) {
		return
	}
	dir := storetest.SmallDisk(t, 1<<20)
	storetest.Fill(t, dir)
	path := filepath.Join(dir, "copy.db")
	if err := openItems(t, store.Options{}).Backup(t.Context(), path); !errors.Is(err, store.ErrDiskFull) {
		t.Errorf("error = %v, want ErrDiskFull", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a part of the copy was left: %v", err)
	}
}
