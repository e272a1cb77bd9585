package policy

import (
	"os"
	"reflect"
	"testing"
)

// TestDefaultsAreValid: an empty file and the block of the product description, verbatim, both give the defaults.
func TestDefaultsAreValid(t *testing.T) {
	product, err := os.ReadFile("testdata/product.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"empty": nil, "comment": []byte("# nothing\n"), "product": product, "null": []byte("autoHeal:\n")} {
		l, err := Load(Source{Path: name, Data: data})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !reflect.DeepEqual(l.Policy, Default()) {
			t.Errorf("%s: not the defaults:\n got %+v\nwant %+v", name, l.Policy, Default())
		}
		if l.Hash() != Default().Hash() {
			t.Errorf("%s: another hash than the defaults", name)
		}
	}
}
