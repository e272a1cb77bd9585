package archtest

import (
	"os"
	"testing"
	"testing/fstest"
)

// TestDocuments holds the pages of this repository.
func TestDocuments(t *testing.T) {
	root := moduleRoot(t)
	tree, err := Load(os.DirFS(root), modulePath(t, root))
	if err != nil {
		t.Fatal(err)
	}
	found, err := CheckDocuments(os.DirFS(root), tree)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range found {
		t.Error(v)
	}
}

func TestPlantedDocuments(t *testing.T) {
	files := fstest.MapFS{}
	for name, text := range map[string]string{
		"docs/behaviour.md": "# Behaviour\n**C1. Proof.** As it is.\n**B2h.** Hedge. See behaviour C1.\n",
		"docs/design.md":    "| `internal/heal` | the engine |\n",
		"README.md": "See [design](docs/design.md#words) and [more](docs/more.md).\nMail [us](mailto:a@b.example).\n" +
			"By behaviour C9 and behaviour B2h.\nAs RULES C1 says, or DESIGN.md.\nIt lies in /work/notes/.\n",
		"internal/heal/core.go": "package heal\n\n// Fenced follows behaviour C1 and behaviour Z1.\n// See behaviour D7.\nfunc Fenced() {}\n",
		"internal/tool/tool.go": "package tool\n",
	} {
		files[name] = &fstest.MapFile{Data: []byte(text)}
	}
	tree, err := Load(files, "example.org/x")
	if err != nil {
		t.Fatal(err)
	}
	found, err := CheckDocuments(files, tree)
	if err != nil {
		t.Fatal(err)
	}
	compare(t, found, []string{
		"README.md:1 link: docs/more.md leads nowhere",
		"README.md:3 cite: behaviour C9",
		"README.md:4 cite: RULES C1",
		"README.md:5 selfcontained: /work/",
		"docs/design.md:1 design: internal/tool",
		"internal/heal/core.go:4 cite: behaviour D7",
	})
}
