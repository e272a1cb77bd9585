package signal

import (
	"embed"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
)

//go:embed catalogue/*.yaml catalogue/tables/*.yaml
var catalogueFiles embed.FS

// Builtin returns the catalogue of this program, compiled anew: keep it. An error means that the program was built
// wrong; the tests of this package show that it was not.
func Builtin() (*Catalogue, error) {
	tables, err := readTables()
	if err != nil {
		return nil, err
	}
	links, err := readNVLink()
	if err != nil {
		return nil, err
	}
	var rules []*Rule
	names, err := catalogueFiles.ReadDir("catalogue")
	if err != nil {
		return nil, fmt.Errorf("read the catalogue: %w", err)
	}
	for _, entry := range names {
		if entry.IsDir() {
			continue
		}
		got, err := readFile(entry.Name())
		if err != nil {
			return nil, err
		}
		rules = append(rules, got...)
	}
	if len(rules) == 0 {
		return nil, errNoRules
	}
	for i, r := range rules {
		r.order = i
	}
	c := newCatalogue(rules, tables, links)
	for _, r := range rules {
		if bad := c.checkLinks(r); len(bad) > 0 {
			return nil, fmt.Errorf("rule %s: %s", r.ID, bad[0])
		}
	}
	return c, nil
}

// readFile reads the rules of one file of the catalogue; their IDs begin with its name.
func readFile(name string) ([]*Rule, error) {
	data, err := catalogueFiles.ReadFile(path.Join("catalogue", name))
	if err != nil {
		return nil, fmt.Errorf("read the catalogue: %w", err)
	}
	var file struct {
		Defs  map[string]string `yaml:"defs"` // parts of patterns: %{name} stands for one
		Rules []map[string]any  `yaml:"rules"`
	}
	if err := yaml.UnmarshalWithOptions(data, &file, yaml.DisallowUnknownField()); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	prefix := strings.TrimSuffix(name, ".yaml") + "/"
	var rules []*Rule
	for i, raw := range file.Rules {
		if pattern, ok := raw["pattern"].(string); ok {
			raw["pattern"] = expand(pattern, file.Defs)
		}
		r, bad := readRule(raw, nil)
		if !strings.HasPrefix(r.ID, prefix) {
			bad = append(bad, Problem{Path: "id", Detail: fmt.Sprintf("%q does not begin with %s", r.ID, prefix)})
		}
		if slices.ContainsFunc(rules, func(have *Rule) bool { return have.ID == r.ID }) {
			bad = append(bad, Problem{Path: "id", Detail: fmt.Sprintf("%q stands twice", r.ID)})
		}
		if len(bad) > 0 {
			return nil, fmt.Errorf("read %s: rule %d (%s): %s", name, i, r.ID, bad[0])
		}
		rules = append(rules, &r)
	}
	return rules, nil
}

// expand replaces %{name} by what a file defines.
func expand(pattern string, defs map[string]string) string {
	for name, def := range defs {
		pattern = strings.ReplaceAll(pattern, "%{"+name+"}", def)
	}
	return pattern
}
