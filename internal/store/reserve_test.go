package store_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"autoheal.dev/autoheal/internal/leakcheck"
	"autoheal.dev/autoheal/internal/store"
	"autoheal.dev/autoheal/internal/store/storetest"
)

func blocks(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Blocks * 512
}

func TestReserve(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "reserve")
	const size = 1<<20 + 17
	r, err := store.Reserve(dir, size)
	if err != nil {
		t.Fatal(err)
	}
	if !r.Held() || blocks(t, path) < size {
		t.Errorf("held %t, %d bytes on disk, want %d", r.Held(), blocks(t, path), size)
	}
	if err := errors.Join(r.Release(), r.Release()); err != nil {
		t.Fatal(err)
	}
	if r.Held() || blocks(t, path) != 0 {
		t.Errorf("after release: held %t, %d bytes on disk", r.Held(), blocks(t, path))
	}
	if err := r.Restore(); err != nil || !r.Held() {
		t.Errorf("restore: held %t, %v", r.Held(), err)
	}
	// A sparse copy of the right length, as a backup tool leaves it, holds nothing and is filled again.
	if err := errors.Join(os.Truncate(path, 0), os.Truncate(path, size)); err != nil {
		t.Fatal(err)
	}
	if r.Held() {
		t.Error("a sparse file counts as held")
	}
	if r, err = store.Reserve(dir, size); err != nil || !r.Held() {
		t.Errorf("reserve over a sparse file: held %t, %v", r.Held(), err)
	}
}

func TestRealReserveOnFullDisk(t *testing.T) {
	leakcheck.Start(t)
	if !storetest.InNamespace(t) {
		return
	}
	dir := storetest.SmallDisk(t, 1<<20)
	ballast := storetest.Fill(t, dir)
	r, err := store.Reserve(dir, 256<<10)
	if !errors.Is(err, store.ErrDiskFull) {
		t.Fatalf("reserve on a full disk: error = %v, want ErrDiskFull", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "reserve")); r.Held() || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("held %t, and a part of the file was left (%v)", r.Held(), err)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if err := r.Restore(); err != nil || !r.Held() {
		t.Errorf("restore with space: held %t, %v", r.Held(), err)
	}
}
