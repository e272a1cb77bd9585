package autoheal_test

import (
	"slices"
	"strings"
	"testing"

	"autoheal.dev/autoheal"
)

func TestDependencies(t *testing.T) {
	labels := map[string]string{autoheal.LabelDependsOn: "db, cache,db"}
	if got := autoheal.DependenciesOf(labels); !slices.Equal(got, []string{"cache", "db"}) {
		t.Errorf("got %q", got)
	}
	if got := autoheal.DependenciesOf(nil); len(got) != 0 {
		t.Errorf("of no labels %q", got)
	}
	if _, problems := autoheal.ParseLabels(labels); len(problems) != 0 {
		t.Errorf("refused: %v", problems)
	}
	_, problems := autoheal.ParseLabels(map[string]string{autoheal.LabelDependsOn: "the data base"})
	if len(problems) != 1 || !strings.Contains(problems[0].Error(), "NAME,NAME") || !strings.Contains(problems[0].Error(), autoheal.LabelDependsOn) {
		t.Errorf("%v", problems)
	}
}
