package app

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"autoheal.dev/autoheal/internal/policy"
)

// ConfigFile is the configuration's name in a data directory.
const ConfigFile = "config.yaml"

// LoadConfig reads the configuration: the named file, else config.yaml of the data directory when it is there, then the
// environment, then flags. The error is policy.Problems when the configuration is wrong.
func LoadConfig(path, data string, flags map[string]string) (*policy.Loaded, error) {
	src := policy.Source{Path: path, Env: environ(), Flags: flags}
	if src.Path == "" {
		src.Path = os.Getenv("AUTOHEAL_CONFIG")
	}
	optional := false
	if src.Path == "" && data != "" {
		src.Path, optional = filepath.Join(data, ConfigFile), true
	}
	if src.Path != "" {
		b, err := os.ReadFile(src.Path)
		switch {
		case errors.Is(err, fs.ErrNotExist) && optional:
			src.Path = ""
		case err != nil:
			return nil, fmt.Errorf("read configuration: %w", err)
		}
		src.Data = b
	}
	return policy.Load(src)
}

func environ() map[string]string {
	out := map[string]string{}
	for _, kv := range os.Environ() {
		if k, v, ok := strings.Cut(kv, "="); ok {
			out[k] = v
		}
	}
	return out
}
