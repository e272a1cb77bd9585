package policy

import (
	"fmt"
	"slices"
	"strings"

	"autoheal.dev/autoheal"
)

// Reference returns the reference page of the configuration in Markdown: docs/config.md.
func Reference() string {
	var b strings.Builder
	b.WriteString(referenceHead)
	writeSettings(&b)
	writeLadders(&b)
	writeAutonomy(&b)
	b.WriteString(referenceChecks)
	return b.String()
}

const referenceHead = `# Configuration

<!-- Generated from internal/policy by its tests: go test ./internal/policy -update -->

The healer runs without any file: every setting has a default, and an empty file is valid. ` + "`autoheal config check`" + ` reports
everything that is wrong at once, each with file, line and column and what to write instead; ` + "`autoheal config show`" + ` prints every setting
with its value and where that comes from; ` + "`autoheal config schema`" + ` prints a JSON schema for editors.

## Where a setting comes from

A flag beats the environment, which beats the file, which beats the default. All of them are checked, also the ones that are beaten.

- **File**: one YAML document. Unknown and repeated keys are refused; anchors, aliases and ` + "`<<`" + ` work; tags do not.
- **Environment**: ` + "`AUTOHEAL_`" + ` and the path in upper snake case, without ` + "`autoHeal`" + `: ` + "`autoHeal.node.offlineGracePeriod`" + ` is
  ` + "`AUTOHEAL_NODE_OFFLINE_GRACE_PERIOD`" + `, ` + "`cluster.url`" + ` is ` + "`AUTOHEAL_CLUSTER_URL`" + `. Lists and maps are YAML in flow style: ` + "`AUTOHEAL_VETO='[node/n1]'`" + `.
  A variable that looks like a setting and is none is refused.
- **Flag**: the dotted key, ` + "`--set autoHeal.node.settle=3s`" + `. One entry of a map is a key of its own: ` + "`--set autoHeal.autonomy.reboot=act`" + `.

## How values are written

| what | how |
|---|---|
| duration | a number with its unit: ` + "`90s`, `5m`, `1h30m`, `7d`" + `; a bare number is refused |
| size | a whole number with ` + "`B`, `KiB`, `MiB`, `GiB` or `TiB`" + ` |
| percentage | with its sign: ` + "`5%`" + `; where a count is possible too, a bare whole number is the count |
| N in TIME | ` + "`3 in 1h`" + ` |
| pattern | ` + "`*` any text, `?` one character, `[a-z]`" + ` one of several |
| time | RFC 3339 with its zone: ` + "`2026-01-31T22:00:00Z`" + ` |
`

// writeSettings writes one table for each section of the second level, with the keys below it relative to it.
func writeSettings(b *strings.Builder) {
	defaults := Default()
	b.WriteString("\n## Settings\n")
	var sections []string
	rows := map[string][]string{}
	for i := range fields {
		f := &fields[i]
		parts := strings.Split(f.key, ".")
		section := parts[0]
		if len(parts) > 2 {
			section += "." + parts[1]
		}
		if !slices.Contains(sections, section) {
			sections = append(sections, section)
		}
		rows[section] = append(rows[section], fmt.Sprintf("| `%s` | `%s` | %s *%s.* |\n", strings.TrimPrefix(f.key, section+"."), f.text(defaults), cell(f.doc), cell(capital(f.typ))))
	}
	for _, s := range sections {
		fmt.Fprintf(b, "\n### %s\n\n| key | default | what it does |\n|---|---|---|\n%s", s, strings.Join(rows[s], ""))
	}
}

func writeLadders(b *strings.Builder) {
	b.WriteString("\n## Ladders\n\nWhat is done for each kind of failure, in this order, unless `autoHeal.ladders` says otherwise. A step that touches the part\n" +
		"itself (" + codeList(words(repairs)) + ") must stand after `migrate` or `drain`.\n\n| kind | default steps | may also have |\n|---|---|---|\n")
	for _, k := range autoheal.FailureKinds() {
		var more []string
		for _, s := range fittingSteps[k] {
			if !slices.Contains(defaultLadders[k], s) {
				more = append(more, string(s))
			}
		}
		fmt.Fprintf(b, "| `%s` | %s | %s |\n", k, codeList(words(defaultLadders[k])), codeList(more))
	}
}

func writeAutonomy(b *strings.Builder) {
	b.WriteString("\n## Autonomy\n\n`observe` only watches, `suggest` writes down what it would do, `approve` asks a person, `act` does it. " +
		"`KIND.STEP` comes before `STEP`,\nbefore `KIND`, before the default; a workload's label `" + autoheal.LabelHeal + "` can only lower it. Alerts wait for nobody.\n\n" +
		"With the embedded cluster and in drills the default is `act`, except `replace`, which asks. Otherwise these ask:\n" + codeList(words(serveAsks)) + ".\n")
}

const referenceChecks = `
## Checks across settings

- ` + "`fence.selfStop + fence.margin < fence.wait`" + `: a new copy never starts before the old one has stopped.
- ` + "`node.probeInterval ≤ fence.selfStop / 4`" + `: a few lost answers stop nothing.
- ` + "`node.probeTimeout < node.probeInterval`" + `: probes do not pile up.
- ` + "`3 × node.probeInterval ≤ min(node.offlineGracePeriod, smallest objective / 2)`" + `: one lost answer decides nothing.
- ` + "`node.settle < node.offlineGracePeriod / 2`" + `.
- ` + "`max(node.offlineGracePeriod, fence.wait) + 10s ≤ objective`" + ` of high, medium and low. A critical workload that may run twice is moved at half its
  objective instead; a critical at-most-once workload is accepted with a warning, because its objective cannot be met on silence alone.
- ` + "`minPriority`" + ` falls strictly from critical to low.
- The driver openclaw needs ` + "`cluster.url`" + `.
`

func codeList(names []string) string {
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = "`" + n + "`"
	}
	return strings.Join(quoted, ", ")
}

func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

func capital(s string) string { return strings.ToUpper(s[:1]) + s[1:] }
