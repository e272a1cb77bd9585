package gateway

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
)

// stateVersion is the newest State this program writes and reads.
const stateVersion = 1

// State is what survives a restart: the approved devices.
type State struct {
	Version int      `json:"version"`
	Devices []Device `json:"devices"`
}

// Device is one approved node: the key (first approval), the name bound to it, and the approved surface.
type Device struct {
	ID                   string   `json:"id"`
	PublicKey            string   `json:"publicKey"`
	Name                 string   `json:"name,omitempty"`
	Platform             string   `json:"platform,omitempty"`
	Version              string   `json:"version,omitempty"`
	ClientID             string   `json:"clientId,omitempty"`
	ClientMode           string   `json:"clientMode,omitempty"`
	ApprovedAtMs         int64    `json:"approvedAtMs"`
	ApprovedVia          string   `json:"approvedVia"` // silent, operator
	SurfaceApprovedAtMs  int64    `json:"surfaceApprovedAtMs,omitempty"`
	Caps                 []string `json:"caps,omitempty"`     // approved
	Commands             []string `json:"commands,omitempty"` // approved
	LastConnectedAtMs    int64    `json:"lastConnectedAtMs,omitempty"`
	LastDisconnectedAtMs int64    `json:"lastDisconnectedAtMs,omitempty"`
}

// PairStore keeps the approvals. Save returns only when they are durable.
type PairStore interface {
	Load() (State, error)
	Save(State) error
}

type memoryStore struct {
	mu    sync.Mutex
	state State // mu guards it
}

func (m *memoryStore) Load() (State, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state, nil
}

func (m *memoryStore) Save(s State) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.state = s
	return nil
}

// PairFile is a PairStore in one JSON file of mode 0600, replaced atomically and synced.
type PairFile struct{ path string }

var _ PairStore = (*PairFile)(nil)

// OpenPairFile returns the store at path; its folder must exist. The file is made by the first Save.
func OpenPairFile(path string) (*PairFile, error) {
	info, err := os.Stat(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("open pair file: %w", err)
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("open pair file: %s is not a folder", filepath.Dir(path))
	}
	return &PairFile{path: path}, nil
}

// Load reads the file; a missing one is an empty state. A file that others may write is refused, because it says which
// keys to trust.
func (p *PairFile) Load() (State, error) {
	info, err := os.Stat(p.path)
	if errors.Is(err, fs.ErrNotExist) {
		return State{Version: stateVersion}, nil
	}
	if err != nil {
		return State{}, fmt.Errorf("load pair file: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return State{}, fmt.Errorf("load pair file %s: mode %04o gives others access to the list of trusted keys; check it and run: chmod 600 %s", p.path, mode, p.path)
	}
	data, err := os.ReadFile(p.path)
	if err != nil {
		return State{}, fmt.Errorf("load pair file: %w", err)
	}
	var s State
	if err := json.Unmarshal(data, &s); err != nil {
		return State{}, fmt.Errorf("load pair file %s: %w; restore it from a backup, or delete it to approve every node again", p.path, err)
	}
	if s.Version != stateVersion {
		return State{}, fmt.Errorf("load pair file %s: version %d, this program knows %d", p.path, s.Version, stateVersion)
	}
	return s, nil
}

// Save writes the file beside its place, syncs it and renames it.
func (p *PairFile) Save(s State) error {
	data, err := json.MarshalIndent(s, "", " ")
	if err != nil {
		return fmt.Errorf("save pair file: %w", err)
	}
	dir := filepath.Dir(p.path)
	tmp, err := os.CreateTemp(dir, ".pairs-*") // mode 0600
	if err != nil {
		return fmt.Errorf("save pair file: %w", err)
	}
	defer os.Remove(tmp.Name())
	if _, err := tmp.Write(append(data, '\n')); err != nil {
		return fmt.Errorf("save pair file: %w", errors.Join(err, tmp.Close()))
	}
	if err := errors.Join(tmp.Sync(), tmp.Close()); err != nil {
		return fmt.Errorf("save pair file: %w", err)
	}
	if err := os.Rename(tmp.Name(), p.path); err != nil {
		return fmt.Errorf("save pair file: %w", err)
	}
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("save pair file: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("save pair file: sync folder: %w", err)
	}
	return nil
}

// update changes the approvals: change sees a copy, which counts once it is saved. Readers are never held up by a disk.
func (g *Gateway) update(change func(map[string]Device) error) error {
	g.saveMu.Lock()
	defer g.saveMu.Unlock()
	g.mu.Lock()
	next := maps.Clone(g.devices)
	seen := maps.Clone(g.seen)
	g.mu.Unlock()
	if err := change(next); err != nil {
		return err
	}
	s := State{Version: stateVersion}
	for _, id := range slices.Sorted(maps.Keys(next)) {
		d := next[id]
		d.LastConnectedAtMs, d.LastDisconnectedAtMs = seen[id].connected, seen[id].disconnected
		s.Devices = append(s.Devices, d)
	}
	if err := g.opts.Store.Save(s); err != nil {
		return err
	}
	g.mu.Lock()
	g.devices = next
	g.mu.Unlock()
	return nil
}
