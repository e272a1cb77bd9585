package policy

import (
	"slices"
	"testing"
)

func TestNotYet(t *testing.T) {
	l, err := Load(Source{Path: "c.yaml", Data: []byte("api: {listen: '127.0.0.1:1'}\nautoHeal:\n  enabled: true\n  alerts: {maxPerHour: 3}\n  node: {probeInterval: 4s}\n")})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range l.NotYet() {
		got = append(got, s.Key+" "+s.Origin)
	}
	if want := []string{"autoHeal.alerts.maxPerHour c.yaml:4:12", "api.listen c.yaml:1:7"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// A name that no setting has would say nothing for ever.
func TestNotYetNamesSettings(t *testing.T) {
	for _, name := range notYet {
		if !slices.ContainsFunc(fields, func(f field) bool {
			return f.key == name || name[len(name)-1] == '.' && len(f.key) > len(name) && f.key[:len(name)] == name
		}) {
			t.Errorf("no setting is called %s", name)
		}
	}
}
