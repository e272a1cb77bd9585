package redact

import (
	"fmt"
	"strings"
	"testing"
)

func TestStrike(t *testing.T) {
	tests := []struct {
		name   string
		values []string
		text   string
		want   string
	}{
		{"no values", nil, "hunter22", "hunter22"},
		{"everywhere", []string{"hunter22"}, "a=hunter22 b=hunter22", "a=[0] b=[0]"},
		{"one begins another", []string{"hunter22", "hunter22secret"}, "p=hunter22secret t=hunter22", "p=[1] t=[0]"},
		{"the other order", []string{"hunter22secret", "hunter22"}, "p=hunter22secret t=hunter22", "p=[0] t=[1]"},
		{"too short to be told", []string{"short"}, "a short one", "a short one"},
		{"several lines, printed by line", []string{"-----BEGIN-----\nabcdefgh\n--"}, "1 abcdefgh\n2 x", "1 [0]\n2 x"},
		{"quoted", []string{`say "abc" now`}, `{"a":"say \"abc\" now"}`, `{"a":"[0]"}`},
		{"what stands for one is no value of another", []string{"hunter22", "[0][0]"}, "hunter22 x", "[0] x"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			var v Values
			for n, s := range tc.values {
				v.Add(s, fmt.Sprintf("[%d]", n))
			}
			if got := v.Strike(tc.text); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

// TestAddAfterStrike: a value that is noted late counts from then on.
func TestAddAfterStrike(t *testing.T) {
	var v Values
	v.Add("hunter22", "[a]")
	_ = v.Strike("x")
	v.Add("swordfish", "[b]")
	if got := v.Strike("hunter22 swordfish"); got != "[a] [b]" {
		t.Errorf("got %q", got)
	}
}

// BenchmarkStrike strikes 300 values from text that holds none, as most of a journal.
func BenchmarkStrike(b *testing.B) {
	var v Values
	for n := range 300 {
		v.Add(fmt.Sprintf("secret-value-number-%d", n), "(hidden)")
	}
	line := strings.Repeat(`{"seq":1,"kind":"intent","target":"n1","reason":"node_offline: silent for 30 s"}`, 12)
	b.SetBytes(int64(len(line)))
	for b.Loop() {
		_ = v.Strike(line)
	}
}
