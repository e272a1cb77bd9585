package app

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// nodeToken returns the secret by which nodes join the embedded gateway, making it at the first start.
func nodeToken(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err == nil {
		if err := private(path); err != nil {
			return "", err
		}
		if t := strings.TrimSpace(string(b)); t != "" {
			return t, nil
		}
		return "", fmt.Errorf("node token %s is empty: remove it, and a new one is made", path)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read node token: %w", err)
	}
	raw := make([]byte, 32)
	if _, err := rand.Read(raw); err != nil {
		return "", fmt.Errorf("make node token: %w", err)
	}
	token := hex.EncodeToString(raw)
	if err := os.WriteFile(path, []byte(token+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("write node token: %w", err)
	}
	return token, nil
}

// private refuses a secret that others can read: an agent would refuse it too, and be started again without end.
func private(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("read node token: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("read node token: mode %04o of %s lets others use it; run: chmod 600 %s, or remove it, and a new one is made", mode, path, path)
	}
	return nil
}
