package signal

import (
	"fmt"
	"maps"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"

	"autoheal.dev/autoheal"
)

// Table is what a vendor says of numbered events, by number.
type Table map[string]Meaning

// tableNVLink is the table whose entries are found by decoding registers.
const tableNVLink = "nvlink5"

// readTables reads catalogue/tables: one file per table, one line per number.
func readTables() (map[string]Table, error) {
	out := map[string]Table{tableNVLink: {}}
	for _, name := range []string{"xid", "sxid"} {
		data, err := catalogueFiles.ReadFile("catalogue/tables/" + name + ".yaml")
		if err != nil {
			return nil, fmt.Errorf("read the catalogue: %w", err)
		}
		var file struct {
			Source  string                    `yaml:"source"`
			Entries map[string]map[string]any `yaml:"entries"`
		}
		if err := yaml.UnmarshalWithOptions(data, &file, yaml.DisallowUnknownField()); err != nil {
			return nil, fmt.Errorf("read table %s: %w", name, err)
		}
		out[name] = Table{}
		for number, raw := range file.Entries {
			f := &fields{raw: raw, used: map[string]bool{}}
			m := Meaning{Source: file.Source}
			f.meaning(&m)
			f.unknown()
			if len(f.problems) > 0 {
				return nil, fmt.Errorf("read table %s: %s: %s", name, number, f.problems[0])
			}
			out[name][number] = m
		}
	}
	return out, nil
}

// withActions returns the table with a user's own actions. An action that repairs something makes what it is for a
// failure of the GPU; restarting makes it one of the application; none leaves the failure as it was.
func (t Table) withActions(actions map[int]autoheal.Advice) Table {
	out := maps.Clone(t)
	for number, action := range actions {
		m := out[strconv.Itoa(number)]
		m.Action = action
		m.Because = strings.TrimSpace(m.Because + " The action is set in this site's configuration.")
		switch action {
		case autoheal.AdviceResetGPU, autoheal.AdviceRebootNode, autoheal.AdviceReplaceHW:
			m.Failure, m.Severity, m.Benign = autoheal.FailureGPU, Critical, false
		case autoheal.AdviceRestartApp, autoheal.AdviceFixCode:
			m.Failure, m.Benign = autoheal.FailureApp, false
		}
		out[strconv.Itoa(number)] = m
	}
	return out
}

// over returns m with all that entry says.
func (m Meaning) over(entry Meaning) Meaning {
	set := func(into *string, v string) {
		if v != "" {
			*into = v
		}
	}
	set(&m.Name, entry.Name)
	set((*string)(&m.Failure), string(entry.Failure))
	set((*string)(&m.Scope), string(entry.Scope))
	set((*string)(&m.Action), string(entry.Action))
	set((*string)(&m.Severity), string(entry.Severity))
	set(&m.Because, entry.Because)
	set(&m.Source, entry.Source)
	m.Transient = m.Transient || entry.Transient
	m.Consequence = m.Consequence || entry.Consequence
	if entry.Follows != nil {
		m.Follows = entry.Follows
	}
	m.Yields = m.Yields || entry.Yields
	m.Benign = m.Benign || entry.Benign
	m.Stated = m.Stated || entry.Stated
	return m
}

// meaning completes a match: codes, tables and addresses in one form.
func (c *Catalogue) meaning(r *Rule, f map[string]string) Match {
	m := Match{Rule: r, Code: r.Code, Meaning: r.Meaning, Fields: f}
	if m.Code == "" {
		m.Code = r.ID
	}
	if pci, ok := f["pci"]; ok {
		f["pci"] = NormalPCI(pci)
	}
	for k, v := range f {
		m.Code = strings.ReplaceAll(m.Code, "${"+k+"}", strings.TrimLeft(v, "0"))
	}
	if r.Table == "" {
		return m
	}
	number := strings.TrimLeft(f[r.By], "0")
	switch entry, ok := c.tables[r.Table][number]; {
	case r.Table == tableNVLink:
		m.Meaning = m.over(decodeNVLink(c.nvlink, f))
		m.Meaning = m.over(c.nvlinkNamed(number))
	case ok:
		m.Meaning = m.over(entry)
		m.byWord(f["word"])
	default:
		m.byWord(f["word"])
	}
	if r.Code == "" {
		m.Code = r.ID + "/" + number
	}
	return m
}

// nvlinkNamed gives the name that the table of Xids has for the number.
func (c *Catalogue) nvlinkNamed(number string) Meaning {
	return Meaning{Name: c.tables["xid"][number].Name}
}

// NormalPCI returns a PCI address as DOMAIN:BUS:DEVICE in small letters, without function and with four digits of domain,
// which is how the same GPU can be compared across drivers, tools and kernels.
func NormalPCI(s string) string {
	s = strings.ToLower(s)
	if before, fn, ok := strings.Cut(s, "."); ok && len(fn) == 1 {
		s = before
	}
	parts := strings.Split(s, ":")
	if len(parts) == 2 {
		parts = append([]string{"0000"}, parts...)
	}
	if len(parts) != 3 {
		return s
	}
	domain := strings.TrimLeft(parts[0], "0")
	if len(domain) < 4 {
		domain = "0000"[len(domain):] + domain
	}
	return domain + ":" + parts[1] + ":" + parts[2]
}

// byWord follows the driver's own word for an event where it gives one: Non-fatal asks for nothing, and Fatal for more
// than nothing, whatever the table says of the number.
func (m *Match) byWord(word string) {
	switch {
	case word == "Non-fatal" && m.Action != autoheal.AdviceNone:
		m.Action, m.Severity = autoheal.AdviceNone, Warning
	case word == "Fatal" && m.Action == autoheal.AdviceNone:
		m.Failure, m.Action, m.Severity, m.Benign = autoheal.FailureGPU, autoheal.AdviceRebootNode, Critical, false
	}
}
