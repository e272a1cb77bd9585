package autoheal

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// LabelPrefix starts every label of ours; unknown keys below it are refused at submit.
const LabelPrefix = "autoheal.dev/"

// Labels, the only way to say something about a workload beside its spec. The same keys hold on workloads, nodes and
// pods; docs/behaviour.md explains the values.
const (
	LabelClass        = LabelPrefix + "class"
	LabelKind         = LabelPrefix + "kind"
	LabelAtMostOnce   = LabelPrefix + "at-most-once"
	LabelGang         = LabelPrefix + "gang"
	LabelGangSize     = LabelPrefix + "gang-size"
	LabelRank         = LabelPrefix + "rank"
	LabelReplicas     = LabelPrefix + "replicas"
	LabelMinReplicas  = LabelPrefix + "min-replicas"
	LabelHeal         = LabelPrefix + "heal"
	LabelMaxRestarts  = LabelPrefix + "max-restarts"
	LabelGrace        = LabelPrefix + "grace"
	LabelObjective    = LabelPrefix + "objective"
	LabelNodeSelector = LabelPrefix + "node-selector"
	LabelDependsOn    = LabelPrefix + "depends-on"

	LabelHealth         = LabelPrefix + "health" // behaviour E6, as are the next ones
	LabelHealthInterval = LabelHealth + "-interval"
	LabelHealthTimeout  = LabelHealth + "-timeout"
	LabelHealthFailures = LabelHealth + "-failures"
	LabelHealthStartup  = LabelHealth + "-startup"
	LabelProgress       = LabelPrefix + "progress"
	LabelProgressStall  = LabelProgress + "-stall"
	LabelProgressStart  = LabelProgress + "-startup"

	LabelFabric = LabelPrefix + "fabric" // nodes
	LabelRack   = "topology.kubernetes.io/rack"
	LabelZone   = "topology.kubernetes.io/zone"
)

// Settings is what the labels of a workload say; zero values and nil mean "not said".
type Settings struct {
	Class       Class
	Kind        WorkloadKind
	AtMostOnce  *bool
	Gang        GangID
	GangSize    int
	Rank        int
	Replicas    int // 1 when not said
	MinReplicas int
	Selector    map[string]string
	Options     WorkloadOptions
}

var workloadLabels = map[string]func(*Settings, string) error{
	LabelClass:       func(s *Settings, v string) error { return oneOf(&s.Class, v, Classes()...) },
	LabelKind:        func(s *Settings, v string) error { return oneOf(&s.Kind, v, KindService, KindJob) },
	LabelAtMostOnce:  func(s *Settings, v string) error { return parseBool(&s.AtMostOnce, v) },
	LabelGang:        func(s *Settings, v string) error { s.Gang = GangID(v); return checkName(v) },
	LabelGangSize:    func(s *Settings, v string) error { return parseInt(&s.GangSize, v, 1) },
	LabelRank:        func(s *Settings, v string) error { return parseInt(&s.Rank, v, 0) },
	LabelReplicas:    func(s *Settings, v string) error { return parseInt(&s.Replicas, v, 0) },
	LabelMinReplicas: func(s *Settings, v string) error { return parseInt(&s.MinReplicas, v, 0) },
	LabelHeal: func(s *Settings, v string) error {
		return oneOf(&s.Options.Heal, v, HealAct, HealApprove, HealSuggest, HealObserve, HealOff)
	},
	LabelMaxRestarts:  parseMaxRestarts,
	LabelGrace:        func(s *Settings, v string) error { return parseDuration(&s.Options.Grace, v) },
	LabelObjective:    func(s *Settings, v string) error { return parseDuration(&s.Options.Objective, v) },
	LabelNodeSelector: parseSelector,
	LabelDependsOn:    parseDependencies,
}

// ParseLabels reads a workload's labels. All problems come back at once, each naming its key; keys outside LabelPrefix
// are free.
func ParseLabels(labels map[string]string) (Settings, []*Error) {
	s := Settings{Replicas: 1}
	var checks checkSettings
	var problems []*Error
	refuse := func(key, detail string) {
		problems = append(problems, &Error{Kind: ErrInvalid, Op: "label " + key, Detail: detail})
	}
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		var err error
		if parse, known := workloadLabels[key]; known {
			err = parse(&s, labels[key])
		} else if parse, known := checkLabels[key]; known {
			checks.said = append(checks.said, key)
			err = parse(&checks, labels[key])
		} else if strings.HasPrefix(key, LabelPrefix) {
			refuse(key, "unknown key; known are "+strings.Join(knownLabels(), ", "))
		}
		if err != nil {
			refuse(key, fmt.Sprintf("%q: %v", labels[key], err))
		}
	}
	checks.put(&s.Options, refuse)
	if s.Gang != "" && s.GangSize == 0 {
		refuse(LabelGang, "a gang needs its size: set "+LabelGangSize)
	}
	if s.Gang == "" && s.GangSize > 0 {
		refuse(LabelGangSize, "a size without a gang: set "+LabelGang)
	}
	if s.GangSize > 0 && s.Rank >= s.GangSize {
		refuse(LabelRank, fmt.Sprintf("rank %d of a gang of %d: ranks count from 0", s.Rank, s.GangSize))
	}
	if s.AtMostOnce != nil && *s.AtMostOnce && s.Replicas > 1 {
		refuse(LabelReplicas, "an at-most-once workload has one replica")
	}
	if s.MinReplicas > s.Replicas {
		refuse(LabelMinReplicas, fmt.Sprintf("%d is more than %s %d", s.MinReplicas, LabelReplicas, s.Replicas))
	}
	return s, problems
}

func knownLabels() []string {
	known := slices.AppendSeq(slices.Collect(maps.Keys(workloadLabels)), maps.Keys(checkLabels))
	slices.Sort(known)
	return known
}

var nameRE = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

// CheckName reports whether name may name a node, a workload or a gang: at most 63 of a-z, 0-9 and "-", neither
// starting nor ending with "-".
func CheckName(name string) *Error {
	if err := checkName(name); err != nil {
		return &Error{Kind: ErrInvalid, Op: "name", Detail: fmt.Sprintf("%q: %v", name, err)}
	}
	return nil
}

func checkName(v string) error {
	if !nameRE.MatchString(v) {
		return fmt.Errorf("use at most 63 of a-z, 0-9 and \"-\", and neither start nor end with \"-\"")
	}
	return nil
}

func oneOf[T ~string](dst *T, v string, allowed ...T) error {
	if !slices.Contains(allowed, T(v)) {
		return fmt.Errorf("use one of %v", allowed)
	}
	*dst = T(v)
	return nil
}

func parseBool(dst **bool, v string) error {
	if v != "true" && v != "false" {
		return fmt.Errorf("use true or false")
	}
	b := v == "true"
	*dst = &b
	return nil
}

func parseInt(dst *int, v string, least int) error {
	n, err := strconv.Atoi(v)
	if err != nil || n < least || n > 1_000_000 {
		return fmt.Errorf("use a whole number from %d to 1000000", least)
	}
	*dst = n
	return nil
}

func parseMaxRestarts(s *Settings, v string) error {
	var n int
	if err := parseInt(&n, v, 0); err != nil {
		return err
	}
	s.Options.MaxRestarts = &n
	return nil
}

func parseDuration(dst *time.Duration, v string) error {
	d, err := time.ParseDuration(v)
	if err != nil || d <= 0 {
		return fmt.Errorf("use a duration above zero, such as 90s or 5m")
	}
	*dst = d
	return nil
}

func parseSelector(s *Settings, v string) error {
	sel := map[string]string{}
	for term := range strings.SplitSeq(v, ",") {
		k, val, ok := strings.Cut(term, "=")
		if !ok || strings.TrimSpace(k) == "" {
			return fmt.Errorf("use k=v,k=v")
		}
		sel[strings.TrimSpace(k)] = strings.TrimSpace(val)
	}
	s.Selector = sel
	return nil
}

// parseDependencies checks the names of what a workload needs: DependenciesOf reads them.
func parseDependencies(_ *Settings, v string) error {
	for name := range strings.SplitSeq(v, ",") {
		if err := checkName(strings.TrimSpace(name)); err != nil {
			return fmt.Errorf("use NAME,NAME: %q: %w", name, err)
		}
	}
	return nil
}

// DependenciesOf returns the names of what a workload says it needs, such as a database, in order.
func DependenciesOf(labels map[string]string) []string {
	var out []string
	for name := range strings.SplitSeq(labels[LabelDependsOn], ",") {
		if name = strings.TrimSpace(name); name != "" && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// NodeDomains returns the failure domains that a node's labels name, in the order rack, zone, fabric.
func NodeDomains(labels map[string]string) []Domain {
	var out []Domain
	for _, l := range []struct{ key, kind string }{{LabelRack, "rack"}, {LabelZone, "zone"}, {LabelFabric, "fabric"}} {
		if v := labels[l.key]; v != "" {
			out = append(out, Domain(l.kind+"/"+v))
		}
	}
	return out
}
