package httpapi

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"autoheal.dev/autoheal"
)

func prepareFolder(path string) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("look at folder: %w", err)
	}
	if info.Mode().Perm()&0o022 != 0 {
		return &autoheal.Error{
			Kind:   autoheal.ErrDenied,
			Detail: fmt.Sprintf("others may write in %s (mode %#o), so they could put their own socket there: chmod 700 %s", dir, info.Mode().Perm(), dir),
		}
	}
	return nil
}

// removeStale removes a socket that nobody answers. Only a refused connection proves that: any other failure leaves it.
func removeStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at socket: %w", err)
	}
	if info.Mode().Type() != fs.ModeSocket {
		return &autoheal.Error{Kind: autoheal.ErrConflict, Detail: "it exists and is no socket: move it away"}
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err == nil {
		_ = conn.Close()
		return &autoheal.Error{Kind: autoheal.ErrConflict, Detail: "another healer is listening there: stop it, or use another --data"}
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("find out whether another healer is listening: %w", err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the socket of a dead healer: %w", err)
	}
	return nil
}

// ownerOnly sets the mode before the socket has a name, where the system allows it: then there is no moment at which
// another user could connect. restrict sets it again where it does not.
func ownerOnly(_, _ string, raw syscall.RawConn) error {
	return raw.Control(func(fd uintptr) { _ = syscall.Fchmod(int(fd), 0o600) })
}

func restrict(path string) error {
	if err := os.Chmod(path, 0o600); err != nil {
		return fmt.Errorf("restrict socket to its owner: %w", err)
	}
	return nil
}
