package tool

import (
	"context"
	"fmt"

	"autoheal.dev/autoheal"
	"autoheal.dev/autoheal/internal/policy"
)

// ConfigGetOut is the result of config_get.
type ConfigGetOut struct {
	Hash     string           `json:"hash" jsonschema:"of the configuration in force, as healer_status tells it"`
	Settings []policy.Setting `json:"settings" jsonschema:"each with its value, secrets hidden, and where it comes from"`
}

func configGet(ctx context.Context, env *Env, _ None) (ConfigGetOut, error) {
	if env.Config == nil {
		return ConfigGetOut{}, &autoheal.Error{Kind: autoheal.ErrUnsupported, Op: "config_get", Detail: "this healer does not tell its configuration"}
	}
	st, err := env.Healer.Status(ctx)
	if err != nil {
		return ConfigGetOut{}, fmt.Errorf("read status: %w", err)
	}
	return ConfigGetOut{Hash: st.ConfigHash, Settings: env.Config().Explain()}, nil
}
