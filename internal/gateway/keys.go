package gateway

import (
	"time"

	"autoheal.dev/autoheal/internal/openclaw"
)

// Bounds of the memory of idempotency keys. It saves a round trip and protects nodes that do not remember keys
// themselves; nodes of this program do, so that losing an entry here costs nothing.
const (
	keysWindow  = 10 * time.Minute
	keysEntries = 1024
	keysBytes   = 2 << 20
	keysLargest = 64 << 10
)

type keyID struct{ node, key string }

// keyMemory finds invocations by key, running ones and those whose answer is final. Gateway.mu guards it.
type keyMemory struct {
	byKey map[keyID]*keyEntry
	order []*keyEntry // by time
	bytes int
}

type keyEntry struct {
	inv   *invocation
	at    time.Time
	bytes int // counted once the answer is kept
}

func newKeyMemory() keyMemory { return keyMemory{byKey: make(map[keyID]*keyEntry)} }

func (m *keyMemory) find(key keyID, now time.Time) *invocation {
	m.expire(now)
	if e := m.byKey[key]; e != nil {
		return e.inv
	}
	return nil
}

func (m *keyMemory) add(inv *invocation, now time.Time) {
	e := &keyEntry{inv: inv, at: now}
	m.byKey[inv.key] = e
	m.order = append(m.order, e)
}

// keep counts a settled answer in. It reports false for answers that are not kept: large ones, and those after which a
// repeated key must reach the node again.
func (m *keyMemory) keep(inv *invocation) bool {
	e := m.byKey[inv.key]
	if e == nil || e.inv != inv {
		return false
	}
	size := len(inv.payload) + len(inv.params)
	if size > keysLargest || inv.err != nil && !final(inv.err) {
		return false
	}
	e.bytes = size
	m.bytes += size
	return true
}

// final reports whether an error tells how the command ended, and not merely that it did not run now.
func final(e *openclaw.Error) bool {
	n, _ := e.Details.NodeError()
	switch n.Code {
	case openclaw.NodeBusy, openclaw.NodeExpired, openclaw.NodeKeyReused:
		return false
	}
	return e.Details.Outcome() == openclaw.OutcomeDone
}

func (m *keyMemory) remove(inv *invocation) {
	if e := m.byKey[inv.key]; e != nil && e.inv == inv {
		delete(m.byKey, inv.key)
		m.bytes -= e.bytes
	}
}

// expire drops from the old end what is removed already, too old or too much. Running invocations stop it: they end
// within their timeout.
func (m *keyMemory) expire(now time.Time) {
	for len(m.order) > 0 {
		e := m.order[0]
		gone := m.byKey[e.inv.key] != e
		over := now.Sub(e.at) > keysWindow || len(m.byKey) > keysEntries || m.bytes > keysBytes
		if !gone && (!over || !settled(e.inv)) {
			return
		}
		if !gone {
			m.remove(e.inv)
		}
		m.order[0] = nil
		m.order = m.order[1:]
	}
}

func settled(inv *invocation) bool {
	select {
	case <-inv.done:
		return true
	default:
		return false
	}
}
