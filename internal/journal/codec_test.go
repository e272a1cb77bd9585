package journal

import (
	"bytes"
	"encoding/json"
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func recordOf(t Type, from source) Record {
	return Record{
		V: Version, Seq: uint64(from.number()) & math.MaxInt64, Step: uint64(from.number()) & math.MaxInt64, Epoch: uint64(from.number()) & math.MaxInt64,
		At: from.moment(), Type: t, Incident: "inc-000017", Data: payloadOf(t, from),
	}
}

func TestEveryRecordRoundTrips(t *testing.T) {
	for _, typ := range sortedTypes() {
		t.Run(string(typ), func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) {
				want := recordOf(typ, random{rt})
				b, err := json.Marshal(want)
				if err != nil {
					rt.Fatalf("encode: %v", err)
				}
				var got Record
				if err := json.Unmarshal(b, &got); err != nil {
					rt.Fatalf("decode %s: %v", b, err)
				}
				if !reflect.DeepEqual(got, want) {
					rt.Fatalf("got  %+v\nwant %+v\njson %s", got, want, b)
				}
			})
		})
	}
}

// TestGoldenRecords holds the encoding of every type still. A line that changes is a change of format: old journals must
// stay readable, so raise Version and read both, or undo it. A new line is a new type.
func TestGoldenRecords(t *testing.T) {
	var got bytes.Buffer
	for _, typ := range sortedTypes() {
		b, err := json.Marshal(recordOf(typ, &counter{}))
		if err != nil {
			t.Fatal(err)
		}
		got.Write(append(b, '\n'))
	}
	path := filepath.Join("testdata", "records.golden")
	if *update {
		if err := os.WriteFile(path, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(got.Bytes(), want) {
		return
	}
	have := map[string]bool{}
	for line := range strings.Lines(string(want)) {
		have[line] = true
	}
	for line := range strings.Lines(got.String()) {
		if !have[line] {
			t.Errorf("not in %s:\n%s", path, line)
		}
	}
	t.Errorf("%s differs: run go test ./internal/journal -update and read the difference", path)
}

// TestGoldenRecordsDecode reads what is on record, not what the test just wrote.
func TestGoldenRecordsDecode(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("testdata", "records.golden"))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[Type]bool{}
	for line := range strings.Lines(string(b)) {
		var r Record
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Errorf("decode %s: %v", line, err)
			continue
		}
		seen[r.Type] = true
		if want := recordOf(r.Type, &counter{}); !reflect.DeepEqual(r, want) {
			t.Errorf("%s: got  %+v\nwant %+v", r.Type, r, want)
		}
	}
	if len(seen) != len(decoders) {
		t.Errorf("the golden file has %d types, the codec %d", len(seen), len(decoders))
	}
}

func TestDecodeRefuses(t *testing.T) {
	whole := `{"v":1,"seq":7,"step":3,"epoch":1,"at":"2026-01-02T03:04:05Z","type":"engine_stopped","data":{"reason":"r"}}`
	var r Record
	if err := json.Unmarshal([]byte(whole), &r); err != nil {
		t.Fatalf("the record that the cases change: %v", err)
	}
	cases := []struct{ name, from, to, want string }{
		{"HigherVersion", `"v":1`, `"v":2`, "record 7 has version 2"},
		{"UnknownType", "engine_stopped", "engine_dreamt", `record 7: unknown type "engine_dreamt"`},
		{"UnknownFieldInData", `"reason":"r"`, `"reason":"r","mood":"x"`, `unknown field "mood"`},
		{"UnknownFieldInEnvelope", `"seq":7`, `"seq":7,"mood":"x"`, `unknown field "mood"`},
		{"NoData", `,"data":{"reason":"r"}`, ``, "not a JSON object"},
		{"NullData", `{"reason":"r"}`, `null`, "not a JSON object"},
		{"WrongTypeInData", `"reason":"r"`, `"reason":7`, "record 7: data of engine_stopped"},
		{"BadTime", "2026-01-02T03:04:05Z", "yesterday", "record 7"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			in := strings.Replace(whole, c.from, c.to, 1)
			if in == whole {
				t.Fatal("the case changes nothing")
			}
			got := Record{Seq: 99}
			err := json.Unmarshal([]byte(in), &got)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error = %v, want one with %q", err, c.want)
			}
			if got.Seq != 99 || got.Data != nil {
				t.Errorf("a refused record was read in part: %+v", got)
			}
		})
	}
	if _, err := DecodePayload(TypeEngineStopped, []byte(`{"reason":"r"} {}`)); err == nil {
		t.Error("something behind the data was accepted")
	}
}

// TestDecodersCoverEveryType reads the source: every constant of type Type and every payload must have its decoder.
func TestDecodersCoverEveryType(t *testing.T) {
	constants, payloads := declared(t)
	if len(constants) < 40 || len(payloads) < 40 {
		t.Fatalf("found %d constants and %d payloads in the source: the search is broken", len(constants), len(payloads))
	}
	for name, value := range constants {
		p, err := DecodePayload(value, []byte("{}"))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if p.Type() != value {
			t.Errorf("the decoder of %s gives a payload of type %s", value, p.Type())
		}
		delete(payloads, reflect.TypeOf(p).Name())
	}
	for name := range payloads {
		t.Errorf("payload %s has no decoder", name)
	}
	if len(constants) != len(decoders) {
		t.Errorf("%d constants, %d decoders", len(constants), len(decoders))
	}
}

func declared(t *testing.T) (constants map[string]Type, payloads map[string]bool) {
	constants, payloads = map[string]Type{}, map[string]bool{}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Recv != nil && d.Name.Name == "Type" {
					payloads[d.Recv.List[0].Type.(*ast.Ident).Name] = true
				}
			case *ast.GenDecl:
				collectConstants(t, d, constants)
			}
		}
	}
	return constants, payloads
}

func collectConstants(t *testing.T, d *ast.GenDecl, into map[string]Type) {
	for _, spec := range d.Specs {
		v, ok := spec.(*ast.ValueSpec)
		if !ok || d.Tok != token.CONST {
			continue
		}
		if typ, ok := v.Type.(*ast.Ident); !ok || typ.Name != "Type" {
			continue
		}
		text, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
		if err != nil {
			t.Fatal(err)
		}
		into[v.Names[0].Name] = Type(text)
	}
}

func FuzzRecord(f *testing.F) {
	for _, typ := range sortedTypes() {
		b, err := json.Marshal(recordOf(typ, &counter{}))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		var r Record
		if json.Unmarshal(in, &r) != nil {
			return
		}
		b, err := json.Marshal(r)
		if err != nil {
			t.Fatalf("a record that was read cannot be written: %v", err)
		}
		var again Record
		if err := json.Unmarshal(b, &again); err != nil {
			t.Fatalf("a record that was written cannot be read: %v", err)
		}
		if b2, _ := json.Marshal(again); !bytes.Equal(b, b2) {
			t.Fatalf("not stable:\n%s\n%s", b, b2)
		}
	})
}
