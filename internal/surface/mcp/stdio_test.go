package mcp

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"autoheal.dev/autoheal/internal/tool/tooltest"
)

const hello = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}` + "\n" +
	`{"jsonrpc":"2.0","method":"notifications/initialized"}` + "\n"

// TestStdioAnswersAll: what was read is answered after the input has ended, and a line that is no JSON ends nothing.
func TestStdioAnswersAll(t *testing.T) {
	tests := []struct {
		name, in string
		ids      string
	}{
		{"input ends at once", hello + `{"jsonrpc":"2.0","id":2,"method":"tools/list"}` + "\n" + `{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"cluster_status"}}` + "\n", "1 2 3"},
		{"no newline at the end", hello + `{"jsonrpc":"2.0","id":2,"method":"ping"}`, "1 2"},
		{"a line that is no JSON", "garbage\n" + hello + "\n{\"jsonrpc\":\n" + `{"jsonrpc":"2.0","id":2,"method":"ping"}` + "\n", "1 2 null null"},
		{"nothing", "", ""},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			s, err := NewServer(healer{tooltest.Sample()}, "test")
			if err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			_ = s.Run(t.Context(), &Stdio{In: strings.NewReader(tc.in), Out: &out}) // how it ends is not the point
			if got := ids(t, out.String()); got != tc.ids {
				t.Errorf("answered %q, want %q:\n%s", got, tc.ids, out.String())
			}
		})
	}
}

// ids returns the identifiers of all answers, in order of their text.
func ids(t *testing.T, out string) string {
	t.Helper()
	known := []string{"1", "2", "3", "null"}
	count := map[string]int{}
	for line := range strings.Lines(out) {
		var m struct {
			ID     json.RawMessage
			Result json.RawMessage
			Error  json.RawMessage
		}
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if m.Result != nil || string(m.ID) == "null" && m.Error != nil {
			count[string(m.ID)]++
		}
	}
	var all []string
	for _, id := range known {
		for range count[id] {
			all = append(all, id)
		}
	}
	return strings.Join(all, " ")
}
