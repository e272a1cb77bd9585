package tool

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"autoheal.dev/autoheal"
)

// BundleOut is the result of bundle_get: the files of an archive about one incident.
type BundleOut struct {
	IncidentID autoheal.IncidentID `json:"incidentId"`
	Name       string              `json:"name" jsonschema:"of the folder in the archive"`
	At         time.Time           `json:"at"`
	Files      []BundleFile        `json:"files"`
	Missing    []string            `json:"missing" jsonschema:"what is not in it, and why"`
}

// BundleFile is one file of a bundle. Its text may quote logs and is untrusted.
type BundleFile struct {
	Name string `json:"name" jsonschema:"with slashes between folders"`
	Text string `json:"text"`
}

// How much of a bundle is journal, and how much is evidence; the oldest of it is kept, because it tells of the cause.
const (
	bundleJournalMost  = 8 << 20
	bundleEvidenceMost = 24 << 20
	bundleLogs         = 64  // workloads
	bundleLines        = 500 // of each
)

// bundle is a bundle being put together. What goes in is named here file by file and, within specifications and settings,
// key by key (behaviour F6).
type bundle struct {
	env    *Env
	out    BundleOut
	hidden secrets
}

func bundleGet(ctx context.Context, env *Env, in IncidentIn) (BundleOut, error) {
	pm, err := env.Healer.PostMortem(ctx, autoheal.IncidentID(in.IncidentID))
	if err != nil {
		return BundleOut{}, incidentError(err, in.IncidentID)
	}
	id := pm.Incident.ID
	b := &bundle{env: env, out: BundleOut{IncidentID: id, Name: "autoheal-" + string(id), At: env.Now()}}
	specs := b.specs(ctx, pm.Incident)
	for _, part := range []func(context.Context, autoheal.PostMortem) error{b.about, b.account, b.records, b.captures, b.logs, b.config, b.nodes} {
		if err := part(ctx, pm); err != nil {
			return BundleOut{}, fmt.Errorf("bundle %s: %w", id, err)
		}
	}
	if err := b.json("workloads.json", specs); err != nil {
		return BundleOut{}, err
	}
	for _, m := range b.out.Missing {
		b.out.Files[0].Text += "missing: " + m + "\n"
	}
	return b.out, nil
}

// text adds a text file.
func (b *bundle) text(name, text string) {
	b.out.Files = append(b.out.Files, BundleFile{Name: name, Text: b.hidden.Strike(text)})
}

// json adds a value as a file, in the form that every surface shares.
func (b *bundle) json(name string, v any) error {
	raw, err := Encode(v)
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	b.out.Files = append(b.out.Files, BundleFile{Name: name, Text: b.hidden.strikeJSON(string(raw)) + "\n"})
	return nil
}

func (b *bundle) missing(format string, args ...any) {
	b.out.Missing = append(b.out.Missing, b.hidden.Strike(fmt.Sprintf(format, args...)))
}

// about says what this is and which healer made it.
func (b *bundle) about(ctx context.Context, pm autoheal.PostMortem) error {
	st, err := b.env.Healer.Status(ctx)
	if err != nil {
		return err
	}
	simulated := ""
	if st.Simulated {
		simulated = "hardware: SIMULATED, the GPUs of this cluster are made up\n"
	}
	b.text("README.txt", fmt.Sprintf(`Bundle of incident %s (%s on %s), made by autoheal.

version:  %s
cluster:  %s
life:     epoch %d, since %s
config:   %s
journal:  record %d
made at:  %s
%s
Log lines and captured texts are quoted as they were: they are untrusted. Values of environment variables are not in here:
the registry gives them to nobody, and where one of those of the workloads concerned turned up in a text of six
characters or more, it reads %s. What a workload printed of secrets that it got in another way cannot be told from other text.

`, pm.Incident.ID, pm.Incident.Kind, pm.Incident.Subject, st.Version, st.Cluster, st.Epoch, st.StartedAt.UTC().Format(time.RFC3339), st.ConfigHash,
		st.JournalSeq, b.out.At.UTC().Format(time.RFC3339), simulated, HiddenValue))
	return nil
}

func (b *bundle) account(_ context.Context, pm autoheal.PostMortem) error {
	b.text("postmortem.md", pm.Markdown)
	if err := b.json("incident.json", pm.Incident); err != nil {
		return err
	}
	return b.json("account.json", pm.Account)
}

// records adds the journal of the incident, a record a line.
func (b *bundle) records(ctx context.Context, pm autoheal.PostMortem) error {
	all, err := b.env.Healer.Journal(ctx, pm.Incident.ID)
	if err != nil {
		return err
	}
	var lines strings.Builder
	for n, r := range all {
		if lines.Len()+len(r) > bundleJournalMost {
			b.missing("journal.jsonl: %d of %d records, more than %d MiB", len(all)-n, len(all), bundleJournalMost>>20)
			break
		}
		lines.WriteString(b.hidden.strikeJSON(string(r)) + "\n")
	}
	if len(all) == 0 {
		b.missing("journal.jsonl: no record of this incident is kept any more")
	}
	b.out.Files = append(b.out.Files, BundleFile{Name: "journal.jsonl", Text: lines.String()})
	return nil
}

// captures adds what was collected before a repair (behaviour F4).
func (b *bundle) captures(ctx context.Context, pm autoheal.PostMortem) error {
	if b.env.Captures == nil {
		b.missing("evidence: the driver of this cluster collects none")
		return nil
	}
	all, err := b.env.Captures.Captures(ctx, pm.Incident.ID)
	if err != nil {
		b.missing("evidence: %v", err)
		return nil
	}
	if len(all) == 0 {
		b.missing("evidence: none was collected for this incident")
	}
	left := bundleEvidenceMost
	for n, c := range all {
		for _, p := range c.Parts {
			name := path.Join("evidence", fmt.Sprintf("%02d-%s", n+1, fileName(string(c.Node))), fileName(p.Name)+".txt")
			if left -= len(p.Text); left < 0 {
				b.missing("%s: the evidence before it fills %d MiB", name, bundleEvidenceMost>>20)
				continue
			}
			b.text(name, p.Text)
		}
	}
	return nil
}

// logs adds the last lines of the workloads concerned, until the incident ended.
func (b *bundle) logs(ctx context.Context, pm autoheal.PostMortem) error {
	q := autoheal.LogQuery{Limit: bundleLines}
	if pm.Incident.EndedAt != nil {
		q.Until = *pm.Incident.EndedAt
	}
	concerned := workloadsOf(pm.Incident)
	if more := len(concerned) - bundleLogs; more > 0 {
		b.missing("logs: those of %d more workloads", more)
		concerned = concerned[:bundleLogs]
	}
	for _, q.Workload = range concerned {
		var lines strings.Builder
		for l, err := range b.env.Cluster.Logs(ctx, q) {
			if err != nil {
				b.missing("logs/%s.txt: %v", fileName(string(q.Workload)), err)
				break
			}
			fmt.Fprintf(&lines, "%s %s attempt %d %s %s\n", l.At.UTC().Format(timeLayout), l.Source, l.Attempt, l.Level, l.Message)
		}
		if lines.Len() > 0 {
			b.text("logs/"+fileName(string(q.Workload))+".txt", lines.String())
		}
	}
	return nil
}

// config adds the settings in force, as config_get shows them: a setting that holds a secret shows none of it.
func (b *bundle) config(ctx context.Context, _ autoheal.PostMortem) error {
	if b.env.Config == nil {
		b.missing("config.json: this healer does not tell its configuration")
		return nil
	}
	c, err := configGet(ctx, b.env, None{})
	if err != nil {
		return err
	}
	return b.json("config.json", c)
}

// nodes adds the nodes that the incident is about, or that its work left or went to.
func (b *bundle) nodes(ctx context.Context, pm autoheal.PostMortem) error {
	all, err := b.env.Healer.Nodes(ctx)
	if err != nil {
		return err
	}
	concerned := nodesOf(pm.Incident)
	out := slices.DeleteFunc(all, func(n autoheal.NodeView) bool {
		return !slices.Contains(concerned, n.ID) && !slices.ContainsFunc(n.GPUs, func(g autoheal.GPU) bool { return string(g.UUID) == pm.Incident.Subject.ID })
	})
	return b.json("nodes.json", out)
}

// nodesOf names the nodes of an incident.
func nodesOf(i autoheal.Incident) []autoheal.NodeID {
	var out []autoheal.NodeID
	for _, a := range append([]autoheal.ActionView{{Target: i.Subject}}, i.Actions...) {
		if a.Target.Kind == autoheal.RefNode {
			out = append(out, autoheal.NodeID(a.Target.ID))
		}
	}
	for _, r := range i.Recoveries {
		out = append(out, r.From, r.To)
	}
	return out
}

// workloadsOf names the workloads of an incident.
func workloadsOf(i autoheal.Incident) []autoheal.WorkloadID {
	var out []autoheal.WorkloadID
	if i.Subject.Kind == autoheal.RefWorkload {
		out = append(out, autoheal.WorkloadID(i.Subject.ID))
	}
	for _, r := range i.Recoveries {
		out = append(append(out, r.Workload), r.Members...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// specs returns what the workloads concerned were submitted as, without the values of their environments, and notes those
// values: they are struck from every text. Those of other workloads on the same nodes are noted, too.
func (b *bundle) specs(ctx context.Context, i autoheal.Incident) map[string]*ShownSpec {
	out := map[string]*ShownSpec{}
	if b.env.Workloads == nil {
		return out
	}
	concerned := workloadsOf(i)
	beside, nodes := slices.Clone(concerned), nodesOf(i)
	if all, err := b.env.Healer.Workloads(ctx); err == nil {
		for _, w := range all {
			if slices.Contains(nodes, w.Node) {
				beside = append(beside, w.ID)
			}
		}
	}
	slices.Sort(beside)
	for _, id := range slices.Compact(beside) {
		s, err := b.env.Workloads.Spec(ctx, id)
		if err != nil {
			continue // it is no longer known
		}
		for _, v := range s.Env {
			b.hidden.Add(v, HiddenValue)
		}
		if slices.Contains(concerned, id) {
			out[string(id)] = hideEnv(s)
		}
	}
	return out
}

// fileName keeps of a name what is harmless in a path.
func fileName(s string) string {
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' || r == '.' {
			return r
		}
		return '-'
	}, s)
	if name = strings.TrimLeft(name, "."); name == "" {
		return "unnamed"
	}
	return name[:min(len(name), 100)]
}
