package policy

import (
	"maps"
	"slices"
	"strings"
)

// EnvPrefix starts every variable of ours.
const EnvPrefix = "AUTOHEAL_"

// reservedEnv are variables of ours that are no settings: what the program itself reads, and what it sets for
// workloads, so that a healer started inside one does not trip over them.
var reservedEnv = []string{
	"AUTOHEAL_SERVER", "AUTOHEAL_DATA", "AUTOHEAL_CONFIG", "AUTOHEAL_TOKEN", "AUTOHEAL_CRASH_AT", "AUTOHEAL_TEST_RUN",
	"AUTOHEAL_LEAK_DIR", "AUTOHEAL_LEAK_RUN",
	"AUTOHEAL_GENERATION", "AUTOHEAL_ATTEMPT", "AUTOHEAL_WORKLOAD", "AUTOHEAL_WORKLOAD_ID", "AUTOHEAL_WORKLOAD_NAME",
	"AUTOHEAL_NODE", "AUTOHEAL_NODE_ID", "AUTOHEAL_NODE_NAME", "AUTOHEAL_GANG", "AUTOHEAL_GANG_SIZE", "AUTOHEAL_RANK",
	"AUTOHEAL_GPUS", "AUTOHEAL_CLUSTER",
}

// ReservedEnv lists the variables that start with AUTOHEAL_ and are no settings.
func ReservedEnv() []string { return slices.Clone(reservedEnv) }

func (r *reader) environment(env map[string]string) {
	r.from = OriginEnv
	names := map[string]*field{}
	for i := range fields {
		names[fields[i].env()] = &fields[i]
	}
	known := slices.Sorted(maps.Keys(names))
	for _, name := range slices.Sorted(maps.Keys(env)) {
		if !strings.HasPrefix(name, EnvPrefix) || slices.Contains(reservedEnv, name) {
			continue
		}
		if f, ok := names[name]; ok {
			r.override(f, name, env[name])
			continue
		}
		if remedy, ok := looksLikeSetting(name, known); ok {
			r.report(0, 0, name, "no such setting", remedy)
		}
	}
}

// looksLikeSetting reports whether a variable was probably meant as a setting: it begins like a section, or it is
// nearly the name of one. Others may belong to somebody else's program.
func looksLikeSetting(name string, known []string) (remedy string, ok bool) {
	if twice, ok := strings.CutPrefix(name, EnvPrefix+EnvPrefix); ok {
		name = EnvPrefix + twice // the section autoHeal is in the prefix already
	}
	rest := strings.TrimPrefix(name, EnvPrefix)
	bare := make([]string, len(known)) // the prefix is alike in all and would make any two names near
	for i, k := range known {
		bare[i] = strings.TrimPrefix(k, EnvPrefix)
	}
	if n, near := nearest(rest, bare); near {
		return "did you mean " + EnvPrefix + n + "?", true
	}
	for _, section := range append(children("autoHeal"), children("")...) {
		prefix := strings.TrimPrefix(envName(section), EnvPrefix) + "_"
		if strings.HasPrefix(rest, prefix) {
			return "unset it, or see autoheal config show for the keys of " + section, true
		}
	}
	return "", false
}
