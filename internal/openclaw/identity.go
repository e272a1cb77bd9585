package openclaw

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Identity is the Ed25519 key of a device. The zero value is no identity.
type Identity struct {
	key ed25519.PrivateKey
}

// NewIdentity makes an identity from 32 bytes of seed.
func NewIdentity(seed io.Reader) (Identity, error) {
	var raw [ed25519.SeedSize]byte
	if _, err := io.ReadFull(seed, raw[:]); err != nil {
		return Identity{}, fmt.Errorf("read identity seed: %w", err)
	}
	return Identity{key: ed25519.NewKeyFromSeed(raw[:])}, nil
}

// IsZero reports whether there is no key.
func (i Identity) IsZero() bool { return len(i.key) == 0 }

// ID is the device id: the lower-case hex SHA-256 of the raw public key. The gateway calls it nodeId.
func (i Identity) ID() string {
	if i.IsZero() {
		return ""
	}
	return DeviceID(i.public())
}

// PublicKey is the raw public key in base64url without padding.
func (i Identity) PublicKey() string {
	if i.IsZero() {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(i.public())
}

// Sign returns the base64url signature of text.
func (i Identity) Sign(text string) string {
	return base64.RawURLEncoding.EncodeToString(ed25519.Sign(i.key, []byte(text)))
}

// String hides the key from logs.
func (i Identity) String() string { return "device " + i.ID() }

func (i Identity) public() ed25519.PublicKey { return i.key.Public().(ed25519.PublicKey) }

// DeviceID computes the device id of a raw public key.
func DeviceID(publicKey []byte) string {
	sum := sha256.Sum256(publicKey)
	return hex.EncodeToString(sum[:])
}

const identityPEM = "PRIVATE KEY"

// LoadOrCreateIdentity reads the key at path, or makes one there (mode 0600, written and synced before it is used: a key
// lost in a crash would be a new node that needs both approvals again). A file that others can read is refused.
func LoadOrCreateIdentity(path string) (Identity, error) {
	id, err := loadIdentity(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return id, err
	}
	id, err = NewIdentity(rand.Reader)
	if err != nil {
		return Identity{}, err
	}
	created, err := createIdentity(path, id)
	if err != nil {
		return Identity{}, fmt.Errorf("create identity %s: %w", path, err)
	}
	if !created { // another process was first: its key counts
		return loadIdentity(path)
	}
	return id, nil
}

func loadIdentity(path string) (Identity, error) {
	f, err := os.Open(path)
	if err != nil {
		return Identity{}, fmt.Errorf("open identity: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return Identity{}, fmt.Errorf("stat identity: %w", err)
	}
	if !info.Mode().IsRegular() {
		return Identity{}, fmt.Errorf("read identity %s: not a regular file", path)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return Identity{}, fmt.Errorf("read identity %s: mode %04o lets others read the private key; run: chmod 600 %s "+
			"(and, if others may have copied it, delete it and approve the node again)", path, mode, path)
	}
	data, err := io.ReadAll(io.LimitReader(f, 16<<10))
	if err != nil {
		return Identity{}, fmt.Errorf("read identity %s: %w", path, err)
	}
	id, err := parseIdentity(data)
	if err != nil {
		return Identity{}, fmt.Errorf("read identity %s: %w; delete the file to make a new key (the node then needs both approvals again)", path, err)
	}
	return id, nil
}

func parseIdentity(data []byte) (Identity, error) {
	block, rest := pem.Decode(data)
	if block == nil || block.Type != identityPEM || len(bytes.TrimSpace(rest)) > 0 {
		return Identity{}, errors.New("not a PEM private key")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return Identity{}, fmt.Errorf("parse private key: %w", err)
	}
	key, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return Identity{}, fmt.Errorf("parse private key: %T is not Ed25519", parsed)
	}
	return Identity{key: key}, nil
}

// createIdentity writes the key beside its place and links it in, so that a reader sees all of it or nothing and the
// first of two writers wins. It reports false if a file is already there.
func createIdentity(path string, id Identity) (bool, error) {
	der, err := x509.MarshalPKCS8PrivateKey(id.key)
	if err != nil {
		return false, err
	}
	dir := filepath.Dir(path)
	tmp, err := os.CreateTemp(dir, ".key-*") // made with mode 0600
	if err != nil {
		return false, err
	}
	defer os.Remove(tmp.Name())
	data := pem.EncodeToMemory(&pem.Block{Type: identityPEM, Bytes: der})
	if _, err := tmp.Write(data); err != nil {
		return false, errors.Join(err, tmp.Close())
	}
	if err := errors.Join(tmp.Sync(), tmp.Close()); err != nil {
		return false, err
	}
	if err := os.Link(tmp.Name(), path); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return false, nil
		}
		return false, err
	}
	return true, syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
