package policy

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"autoheal.dev/autoheal"
)

func drawDuration(t *rapid.T, name string, most time.Duration) time.Duration {
	unit := rapid.SampledFrom([]time.Duration{1, time.Millisecond, time.Second, time.Minute, time.Hour, day}).Draw(t, name+" unit")
	return time.Duration(rapid.Int64Range(0, int64(most/max(unit, 1))).Draw(t, name)) * unit
}

// TestUnitsReadBack: what is printed reads as what was printed from.
func TestUnitsReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := drawDuration(t, "duration", maxDuration)
		if got, err := ParseDuration(FormatDuration(d)); err != nil || got != d {
			t.Fatalf("%d as %q: %v, %v", d, FormatDuration(d), got, err)
		}
		b := rapid.Int64Range(0, 1<<60).Draw(t, "size")
		if got, err := ParseSize(FormatSize(b)); err != nil || got != b {
			t.Fatalf("%d as %q: %v, %v", b, FormatSize(b), got, err)
		}
		o := Occurrences{rapid.IntRange(1, 999_999).Draw(t, "count"), max(1, d)}
		if got, err := parseOccurrences(o.String()); err != nil || got != o {
			t.Fatalf("%+v as %q: %+v, %v", o, o.String(), got, err)
		}
		percent := float64(rapid.IntRange(0, 1_000_000).Draw(t, "percent")) / 1e4
		if got, err := parsePercent(formatPercent(percent)); err != nil || got != percent {
			t.Fatalf("%v as %q: %v, %v", percent, formatPercent(percent), got, err)
		}
		if got, err := parsePercent(fractionCodec.write(percent / 100)); err != nil || got/100 != percent/100 {
			t.Fatalf("fraction of %v as %q: %v, %v", percent, fractionCodec.write(percent/100), got, err)
		}
	})
}

// TestLimitOf: never below the least, never above the whole for a share, never shrinking as the whole grows, and exact
// for shares with up to four decimals.
func TestLimitOf(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		whole := rapid.IntRange(0, 1_000_000).Draw(t, "whole")
		least := rapid.IntRange(0, 10).Draw(t, "least")
		parts := rapid.IntRange(1, 1_000_000).Draw(t, "ten-thousandths of a per cent")
		l := Limit{Percent: float64(parts) / 1e4}
		if got, want := l.Of(whole, least), max(least, int(int64(whole)*int64(parts)/1_000_000)); got != want {
			t.Fatalf("%s of %d: %d, want %d", l, whole, got, want)
		}
		if l.Of(whole+1, least) < l.Of(whole, least) {
			t.Fatalf("%s of %d is less than of %d", l, whole+1, whole)
		}
		c := Limit{Count: rapid.IntRange(0, 100).Draw(t, "count")}
		if got := c.Of(whole, least); got != max(least, c.Count) {
			t.Fatalf("%s of %d: %d", c, whole, got)
		}
	})
}

// TestBackoffWait: starts at Initial, never shrinks, never exceeds Max, and reaches Max when it grows at all.
func TestBackoffWait(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		initial := max(time.Millisecond, drawDuration(t, "initial", time.Hour))
		b := Backoff{
			Kind: BackoffExponential, Initial: initial, Factor: rapid.Float64Range(1.1, 100).Draw(t, "factor"),
			Max: initial + drawDuration(t, "max", maxDuration-time.Hour),
		}
		if b.Wait(1) != initial || b.Wait(0) != initial {
			t.Fatalf("first wait %v of %v", b.Wait(1), b)
		}
		for n := 1; n < 400; n++ {
			if w := b.Wait(n); w > b.Max || w > b.Wait(n+1) || w < initial {
				t.Fatalf("wait %d of %v: %v, then %v", n, b, w, b.Wait(n+1))
			}
		}
		if b.Wait(1<<40) != b.Max {
			t.Fatalf("in the end %v of %v", b.Wait(1<<40), b)
		}
	})
}

// drawPolicy draws settings around the checks' edges.
func drawPolicy(t *rapid.T) *Policy {
	p := Default()
	seconds := func(name string, most int) time.Duration {
		return time.Duration(rapid.IntRange(1, most).Draw(t, name)) * time.Second
	}
	p.Node.ProbeInterval, p.Node.ProbeTimeout = seconds("interval", 20), seconds("timeout", 20)
	p.Node.OfflineGracePeriod, p.Node.Settle = seconds("grace", 400), seconds("settle", 100)
	p.Fence.SelfStop, p.Fence.Margin, p.Fence.Wait = seconds("selfStop", 120), seconds("margin", 60), seconds("wait", 400)
	for _, c := range autoheal.Classes() {
		k := p.Classes[c]
		k.Objective, k.MinPriority = seconds("objective of "+string(c), 1200), rapid.IntRange(0, 100).Draw(t, "priority of "+string(c))
		p.Classes[c] = k
	}
	return p
}

// TestValidate: it accepts exactly the policies that keep the promises for which the checks exist, each problem says
// what to do, and Load agrees with it.
func TestValidate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawPolicy(t)
		least := p.Classes[autoheal.Critical].Objective
		kept := true
		promise := func(ok bool) { kept = kept && ok }
		for i, c := range autoheal.Classes() {
			k := p.Classes[c]
			least = min(least, k.Objective)
			if c != autoheal.Critical {
				promise(p.Node.OfflineGracePeriod+10*time.Second <= k.Objective && p.Fence.Wait+10*time.Second <= k.Objective)
				promise(k.MinPriority < p.Classes[autoheal.Classes()[i-1]].MinPriority)
			}
		}
		promise(p.Fence.SelfStop+p.Fence.Margin < p.Fence.Wait)
		promise(4*p.PollWait() <= p.Fence.SelfStop)
		promise(p.Node.ProbeTimeout < p.Node.ProbeInterval)
		promise(3*p.Node.ProbeInterval <= p.Node.OfflineGracePeriod && 6*p.Node.ProbeInterval <= least)
		promise(2*p.Node.Settle < p.Node.OfflineGracePeriod)
		problems := p.Validate()
		if kept != (len(problems) == 0) {
			t.Fatalf("promises kept: %v, but\n%v\n%s", kept, problems.Error(), p.YAML())
		}
		for _, pr := range problems {
			if pr.Remedy == "" || fieldAt(pr.Key) == nil {
				t.Fatalf("useless problem %+v", pr)
			}
		}
		l, err := Load(Source{Path: "c.yaml", Data: p.YAML()})
		if (err == nil) != kept {
			t.Fatalf("Load: %v", err)
		}
		if err == nil && !reflect.DeepEqual(l.Policy, p) {
			t.Fatalf("loaded as\n%s\nwant\n%s", l.Policy.YAML(), p.YAML())
		}
		var ps Problems
		if errors.As(err, &ps) && (len(ps) != len(problems) || ps[0].Line == 0) {
			t.Fatalf("Load has other problems, or no place:\n%v\nwant\n%v", ps.Error(), problems.Error())
		}
	})
}

// TestRemediesWork: a policy with one setting changed past an edge is accepted once its remedy's first number is used.
func TestRemediesWork(t *testing.T) {
	for _, tc := range []struct{ bad, key, good string }{
		{"autoHeal.fence.wait=75s", "autoHeal.fence.wait", "75001ms"},
		{"autoHeal.fence.selfStop=16s", "autoHeal.node.probeInterval", "4s"},
		{"autoHeal.node.probeTimeout=5s", "autoHeal.node.probeTimeout", "4999ms"},
		{"autoHeal.node.offlineGracePeriod=14s", "autoHeal.node.offlineGracePeriod", "15s"},
		{"autoHeal.classes.critical.objective=29s", "autoHeal.classes.critical.objective", "30s"},
		{"autoHeal.node.offlineGracePeriod=5m", "autoHeal.classes.high.objective", "5m10s"},
		{"autoHeal.node.settle=1m", "autoHeal.node.settle", "59s"},
	} {
		key, value, _ := strings.Cut(tc.bad, "=")
		flags := map[string]string{key: value}
		_, err := Load(Source{Flags: flags})
		if err == nil || !strings.Contains(err.Error(), tc.key) {
			t.Errorf("%s: %v; want a remedy that names %s", tc.bad, err, tc.key)
		}
		flags[tc.key] = tc.good
		if _, err := Load(Source{Flags: flags}); err != nil {
			t.Errorf("%s with the remedy %s=%s: %v", tc.bad, tc.key, tc.good, err)
		}
	}
}

func readSeed(f *testing.F, path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	return string(data)
}

// FuzzLoad: Load never panics; what it accepts prints as a file that loads to the same policy, and explains itself.
func FuzzLoad(f *testing.F) {
	for _, s := range []string{
		"", "autoHeal:\n", "autoHeal: {node: {settle: 2s}}", "a: &a [*a]", "<<: {a: b}", "autoHeal:\n  veto: [node/a]\n",
		"autoHeal: {signals: {rules: [{a: \"\\u2028\\x01\", b: 1e300, c: .5, d: |\n  x\n}]}}", "? [a]\n: b", "%YAML 1.2\n---\n", "autoHeal: {alerts: {receivers: ['a://b''c']}}",
		"autoHeal: {autonomy: {gpu_failure.reboot: act}, ladders: {crash_loop: [restart]}, maintenance: [{nodes: 'a=b', from: 2026-01-01T00:00:00.5Z, to: 2027-01-01T00:00:00Z}]}",
		string(Default().YAML()), readSeed(f, "testdata/full.yaml"), readSeed(f, "testdata/product.yaml"),
	} {
		f.Add([]byte(s), "2s", "x")
	}
	f.Fuzz(func(t *testing.T, data []byte, env, flag string) {
		l, err := Load(Source{
			Path: "f.yaml", Data: data,
			Env:   map[string]string{"AUTOHEAL_NODE_SETTLE": env, "AUTOHEAL_SIGNALS_RULES": flag},
			Flags: map[string]string{"cluster.name": env, "autoHeal.alerts.receivers": flag},
		})
		if err != nil {
			var ps Problems
			if !errors.As(err, &ps) || len(ps) == 0 || ps.Error() == "" {
				t.Fatalf("error without problems: %v", err)
			}
			l, err = Load(Source{Path: "f.yaml", Data: data})
			if err != nil {
				return
			}
		}
		printed := l.Policy.YAML()
		again, err := Load(Source{Data: printed})
		if err != nil {
			t.Fatalf("accepted, but its print is not:\n%v\n%s", err, printed)
		}
		if !reflect.DeepEqual(again.Policy, l.Policy) || again.Hash() != l.Hash() {
			t.Fatalf("its print is another policy:\n%s\n%s", printed, again.Policy.YAML())
		}
		if got := len(l.Explain()); got != len(fields) {
			t.Fatal(fmt.Sprint("explains ", got))
		}
	})
}

func drawAny(t *rapid.T, depth int) any {
	kinds := 7
	if depth == 0 {
		kinds = 5
	}
	switch rapid.IntRange(0, kinds-1).Draw(t, "kind") {
	case 0:
		return drawText(t)
	case 1:
		return rapid.Int64().Draw(t, "int")
	case 2:
		return rapid.Bool().Draw(t, "bool")
	case 3:
		return nil
	case 4:
		return rapid.Float64Range(-1e12, 1e12).Draw(t, "float")
	case 5:
		out := []any{}
		for range rapid.IntRange(0, 4).Draw(t, "items") {
			out = append(out, drawAny(t, depth-1))
		}
		return out
	default:
		return drawMap(t, depth-1)
	}
}

func drawMap(t *rapid.T, depth int) map[string]any {
	out := map[string]any{}
	for range rapid.IntRange(0, 4).Draw(t, "entries") {
		out[drawText(t)] = drawAny(t, depth)
	}
	return out
}

func drawText(t *rapid.T) string {
	return rapid.OneOf(rapid.StringN(0, 12, -1), rapid.StringOfN(rapid.RuneFrom([]rune("ab1 :#-?[]{},&*!|>'\"%@`\\\n\t~<=.\r\u0085\u2028\ufeff\x00é")), 0, 10, -1),
		rapid.SampledFrom([]string{"null", "true", "~", "1", "0x1", ".nan", "<<", "- a", "a: b", "---", "2026-01-01", "=", "1:30"})).Draw(t, "text")
}

// TestRawRulesReadBack: whatever text a rule holds, its printed form reads back as the same rule.
func TestRawRulesReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := Default()
		p.Signals.Rules = []map[string]any{drawMap(t, 2)}
		r := &reader{policy: Default()}
		root := parseTree(p.YAML(), func(_, _ int, detail, _ string) { t.Fatal(detail) })
		got, ok := listCodec(rawCodec).read(r, "rules", root.get("autoHeal").get("signals").get("rules"))
		if !ok {
			t.Fatalf("%v\n%q", r.problems, rawCodec.write(p.Signals.Rules[0]))
		}
		if !reflect.DeepEqual(got, p.Signals.Rules) {
			t.Fatalf("%q\nreads as\n%q", rawCodec.write(p.Signals.Rules[0]), rawCodec.write(got[0]))
		}
	})
}

// TestTextReadsBack: text settings are taken from the environment as they are, and their printed form reads back.
func TestTextReadsBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := drawText(t)
		l, err := Load(Source{Env: map[string]string{"AUTOHEAL_STATE_DIR": text}})
		if err != nil {
			if !strings.ContainsFunc(text, func(c rune) bool { return c < ' ' || c >= 0x7f }) {
				t.Fatalf("%q refused: %v", text, err)
			}
			return
		}
		if l.Policy.State.Dir != text {
			t.Fatalf("%q became %q", text, l.Policy.State.Dir)
		}
		again, err := Load(Source{Data: l.Policy.YAML()})
		if err != nil || again.Policy.State.Dir != text {
			t.Fatalf("%q printed as %s: %v", text, quote(text), err)
		}
	})
}

// TestEverySettingReadsBack draws every field from what its codec accepts and compares the policy after a round trip.
func TestEverySettingReadsBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawPolicy(t)
		b := Backoff{Kind: BackoffExponential, Initial: max(time.Millisecond, drawDuration(t, "initial", time.Hour)), Factor: float64(rapid.IntRange(11, 1000).Draw(t, "factor")) / 10}
		b.Max = b.Initial + drawDuration(t, "max", day)
		c := max(time.Millisecond, drawDuration(t, "constant", time.Hour))
		p.Workload.RestartBackoff = rapid.SampledFrom([]Backoff{b, {Kind: BackoffConstant, Initial: c, Factor: 1, Max: c}, backoffOf(BackoffNone)}).Draw(t, "backoff")
		p.Workload.OOMMaxMemoryMB = rapid.Int64Range(0, 1<<30).Draw(t, "memory")
		p.Storm.Fraction = float64(rapid.IntRange(1, 1_000_000).Draw(t, "fraction")) / 1e4 / 100
		p.Budgets.Disrupt.Concurrent = rapid.SampledFrom([]Limit{{}, {Count: 7}, {Percent: 0.0001}, {Percent: 12.3456}, {Percent: 100}}).Draw(t, "limit")
		p.Budgets.Pace = rapid.Float64Range(0.001, 10_000).Draw(t, "pace")
		p.Autonomy[rapid.SampledFrom(autonomyNames()).Draw(t, "step")] = rapid.SampledFrom(autonomyModes).Draw(t, "mode")
		p.Autonomy["gpu_failure."+rapid.SampledFrom(autonomyNames()).Draw(t, "pair")] = autoheal.HealSuggest
		kind := rapid.SampledFrom(autoheal.FailureKinds()).Draw(t, "kind")
		p.Ladders[kind] = p.Ladder(kind)
		p.Signals.Xid[rapid.IntRange(0, 999_999).Draw(t, "xid")] = autoheal.AdviceNone
		from := time.Unix(rapid.Int64Range(0, 1<<35).Draw(t, "from"), rapid.Int64Range(0, 999_999_999).Draw(t, "ns")).UTC()
		p.Maintenance = []Maintenance{{Nodes: rapid.SampledFrom([]string{"n1", "n*", "rack=r1", "a b", "k='\""}).Draw(t, "nodes"), From: from, To: from.Add(time.Second)}}
		p.Veto = []autoheal.Ref{{Kind: rapid.SampledFrom(refKinds).Draw(t, "ref"), ID: rapid.SampledFrom([]string{"n1", "a/b", "x: y", "#"}).Draw(t, "id")}}
		k := p.Classes[autoheal.Low]
		k.Match = []Match{{Labels: map[string]string{"a": rapid.SampledFrom([]string{"", "b", "b=c", "x: y"}).Draw(t, "label"), "b": "c"}}, {Name: "*", Namespace: "p-?"}}
		p.Classes[autoheal.Low] = k
		l, err := Load(Source{Data: p.YAML()})
		var ps Problems
		if errors.As(err, &ps) {
			if len(ps) != len(p.Validate()) {
				t.Fatalf("%v\n%s", err, p.YAML())
			}
			p.Node, p.Fence, p.Classes = Default().Node, Default().Fence, Default().Classes
			if l, err = Load(Source{Data: p.YAML()}); err != nil {
				t.Fatal(err)
			}
		}
		if !reflect.DeepEqual(l.Policy, p) {
			t.Fatalf("got\n%s\nwant\n%s", l.Policy.YAML(), p.YAML())
		}
	})
}
