package openclaw

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
)

func TestHubMarksWhatASlowSubscriberLost(t *testing.T) {
	var h Hub
	slow, cancelSlow := h.Subscribe()
	fast, cancelFast := h.Subscribe()
	defer cancelFast()
	const n = 3 * subscriberQueue
	for i := range n {
		h.Publish(Event{Name: fmt.Sprint(i)})
		if e := <-fast; e.Name != fmt.Sprint(i) {
			t.Fatalf("fast subscriber got %q instead of %d", e.Name, i)
		}
	}
	for i := range subscriberQueue - 1 {
		if e := <-slow; e.Name != fmt.Sprint(i) {
			t.Fatalf("slow subscriber got %q instead of %d", e.Name, i)
		}
	}
	if e := <-slow; e.Name != EventDropped {
		t.Fatalf("got %q instead of the mark", e.Name)
	}
	h.Publish(Event{Name: "next"})
	if e := <-slow; e.Name != "next" {
		t.Fatalf("got %q after the mark", e.Name)
	}
	cancelSlow()
	cancelSlow()
	h.Publish(Event{Name: "late"})
	if e, ok := <-slow; ok {
		t.Fatalf("got %q after the end", e.Name)
	}
}

func TestHubTellsTheStateFirst(t *testing.T) {
	var h Hub
	h.Publish(Event{Name: EventConnected})
	ch, cancel := h.Subscribe()
	defer cancel()
	if e := <-ch; e.Name != EventConnected {
		t.Fatalf("got %q", e.Name)
	}
	h.Publish(Event{Name: EventDisconnected})
	late, cancelLate := h.Subscribe()
	defer cancelLate()
	h.Close()
	if e, ok := <-late; ok {
		t.Fatalf("got %q while disconnected", e.Name)
	}
	after, cancelAfter := h.Subscribe()
	defer cancelAfter()
	if _, ok := <-after; ok {
		t.Fatal("a subscription outlived the hub")
	}
}

func TestBackoffIsSpreadAndBounded(t *testing.T) {
	b := Backoff{}.withDefaults()
	seen := map[time.Duration]bool{}
	for i := range 50 {
		d := b.delay(1, false, fmt.Sprint("device-", i))
		if d < b.Min/2 || d > b.Min {
			t.Fatalf("first delay %s", d)
		}
		seen[d] = true
	}
	if len(seen) < 45 {
		t.Errorf("only %d different delays for 50 devices", len(seen))
	}
	for n := 1; n < 100; n++ {
		d := b.delay(n, false, "x")
		if d != b.delay(n, false, "x") {
			t.Fatal("not deterministic")
		}
		if d > b.Max || n > 10 && d < b.Max/2 {
			t.Fatalf("delay %d is %s", n, d)
		}
	}
	if d := b.delay(1, true, "x"); d < b.Slow/2 || d > b.Slow {
		t.Errorf("slow delay %s", d)
	}
}

func TestJudge(t *testing.T) {
	refusal := func(code, detail string, retryable bool) error {
		return fmt.Errorf("connect: %w", &Error{Code: code, Retryable: retryable, Details: NewDetails(map[string]string{"code": detail})})
	}
	closed := func(code websocket.StatusCode, reason string) error {
		return fmt.Errorf("read: %w", websocket.CloseError{Code: code, Reason: reason})
	}
	tests := []struct {
		name           string
		err            error
		node, operator verdict
	}{
		{"token", refusal(CodeInvalidRequest, DetailTokenMismatch, false), giveUp, giveUp},
		{"protocol", refusal(CodeInvalidRequest, DetailProtocolMismatch, false), giveUp, giveUp},
		{"signature", refusal(CodeInvalidRequest, "DEVICE_AUTH_SIGNATURE_INVALID", false), giveUp, giveUp},
		{"clock off", refusal(CodeInvalidRequest, "DEVICE_AUTH_SIGNATURE_EXPIRED", false), retryFast, retryFast},
		{"not paired", refusal(CodeNotPaired, DetailPairingRequired, false), retrySlow, giveUp},
		{"name bound", refusal(CodeNotPaired, DetailNameBound, false), retrySlow, giveUp},
		{"starting", refusal(CodeUnavailable, "", true), retryFast, retryFast},
		{"restart", closed(1012, "service restart"), retryFast, retryFast},
		{"try again", closed(1013, ""), retryFast, retryFast},
		{"policy", closed(1008, "device removed"), retrySlow, giveUp},
		{"slow", closed(1008, "slow consumer"), retryFast, retryFast},
		{"refused", fmt.Errorf("dial: %w", syscall.ECONNREFUSED), retryFast, retryFast},
		{"other", errors.New("x"), retryFast, retryFast},
	}
	for _, tt := range tests {
		if got := judge(tt.err, RoleNode); got != tt.node {
			t.Errorf("%s: node %d, want %d", tt.name, got, tt.node)
		}
		if got := judge(tt.err, RoleOperator); got != tt.operator {
			t.Errorf("%s: operator %d, want %d", tt.name, got, tt.operator)
		}
	}
	if err := explain(refusal(CodeInvalidRequest, DetailTokenMismatch, false)); !strings.Contains(err.Error(), "token file") {
		t.Errorf("no remedy in %v", err)
	}
}

func TestMemoryOfResults(t *testing.T) {
	now := time.Unix(1000, 0)
	m := newMemory(time.Minute)
	req := func(key, params string) InvokeRequest {
		return InvokeRequest{Command: "c", IdempotencyKey: key, Params: json.RawMessage(params)}
	}
	begin := func(key string) *call {
		run := &call{command: "c", params: []byte("1")}
		m.begin(key, run, now)
		return run
	}
	a := begin("a")
	if run, done := m.lookup(req("a", "1"), now); run != a || done != nil {
		t.Fatal("a running call was not found")
	}
	if _, done := m.lookup(req("a", "2"), now); done == nil || done.err.Code != NodeKeyReused {
		t.Fatalf("a key with other parameters: %+v", done)
	}
	m.finish("a", a, result{payload: json.RawMessage(`"r"`)}, true, now)
	if _, done := m.lookup(req("a", "1"), now); done == nil || string(done.payload) != `"r"` {
		t.Fatalf("not remembered: %+v", done)
	}
	b := begin("b")
	m.finish("b", b, result{err: &NodeError{Code: nodeAborted}}, false, now)
	if run, done := m.lookup(req("b", "1"), now); run != nil || done != nil {
		t.Fatal("an interrupted call was remembered")
	}
	big := json.RawMessage(strings.Repeat(" ", memoryBytes/2))
	for _, key := range []string{"c", "d", "e"} {
		m.finish(key, begin(key), result{payload: big}, true, now)
	}
	if m.bytes > memoryBytes {
		t.Errorf("%d bytes kept", m.bytes)
	}
	if _, done := m.lookup(req("c", "1"), now); done == nil || done.err == nil || done.err.Code != NodeResultEvicted {
		t.Errorf("an evicted result: %+v", done)
	}
	if _, done := m.lookup(req("e", "1"), now); done == nil || done.err != nil {
		t.Errorf("the newest result is gone: %+v", done)
	}
	now = now.Add(2 * time.Minute)
	if run, done := m.lookup(req("a", "1"), now); run != nil || done != nil {
		t.Error("remembered beyond the window")
	}
	if len(m.entries) != 0 || len(m.order) != 0 || m.bytes != 0 {
		t.Errorf("left: %d entries, %d in order, %d bytes", len(m.entries), len(m.order), m.bytes)
	}
	for i := range 3 * memoryEntries {
		key := fmt.Sprint(i)
		m.finish(key, begin(key), result{}, true, now)
	}
	if len(m.entries) > memoryEntries+1 {
		t.Errorf("%d entries", len(m.entries))
	}
}

func TestStallWatchAgesRequests(t *testing.T) {
	var s stallWatch
	now := time.Unix(1000, 0)
	beat := func() { s.note(now); b := now; s.beat.Store(&b) }
	beat()
	for range 10 {
		now = now.Add(stallBeat)
		if age := s.age(now); age != 0 {
			t.Fatalf("age %s while running", age)
		}
		beat()
	}
	now = now.Add(30 * time.Second) // stood still
	if age := s.age(now); age != 30*time.Second {
		t.Fatalf("age %s right after a stall of 30 s", age)
	}
	beat()
	now = now.Add(time.Second)
	if age := s.age(now); age != 31*time.Second {
		t.Fatalf("age %s one second after the stall", age)
	}
	for range 6 {
		beat()
		now = now.Add(stallBeat)
	}
	if age := s.age(now); age != 0 {
		t.Fatalf("age %s long after the stall", age)
	}
}

func TestTruncateReason(t *testing.T) {
	long := strings.Repeat("ä", 100)
	got := truncateReason(long)
	if len(got) > 123 || !strings.HasPrefix(long, got) || strings.ContainsRune(got, '�') {
		t.Errorf("%d bytes: %q", len(got), got)
	}
}

func TestNewResultBounds(t *testing.T) {
	if r := newResult([]byte("nonsense"), nil); r.err == nil {
		t.Error("invalid JSON passed")
	}
	if r := newResult(nil, nil); string(r.payload) != "{}" {
		t.Errorf("empty result %q", r.payload)
	}
	if r := newResult(make([]byte, MaxPayload), nil); r.err == nil {
		t.Error("an oversized result passed")
	}
	if r := newResult(nil, fmt.Errorf("x: %w", &Error{Code: "DENIED", Message: "no"})); r.err.Code != "DENIED" {
		t.Errorf("code %q", r.err.Code)
	}
}
