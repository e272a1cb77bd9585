package sim

import (
	"autoheal.dev/autoheal"
)

// The documented holes: where two copies of an at-most-once workload may exist without a fault of the healer (behaviour
// C1, C2). Each is an exception for what it names and for nothing else, and every use of it is counted and printed.
const (
	holeShim   = "stopped_shim"  // nobody enforces the deadline
	holeKernel = "frozen_kernel" // nothing runs, and so nothing is stopped, until it thaws
	holeWord   = "untrue_word"   // a person said of a node that it is off, and it was not
)

// hole notes that a hole has closed on this node. What it let be ends within a shim's kill time, or by the healer.
func (m *machine) hole(name string) { m.holes[name] = m.w.q.now }

// openHole names the hole by which a copy may run on m beside a newer one that was started with this proof; "" = by none.
func (m *machine) openHole(proof autoheal.Proof) string {
	lately := func(name string) bool {
		at, was := m.holes[name]
		return was && m.w.q.now.Sub(at) <= 2*killTime
	}
	switch proof {
	case autoheal.ProofSelfStop:
		switch {
		case m.shims > 0 || lately(holeShim):
			return holeShim
		case m.frozen || lately(holeKernel):
			return holeKernel
		}
	case autoheal.ProofOperator:
		if _, told := m.holes[holeWord]; told {
			return holeWord
		}
	}
	return ""
}

// exception is one copy that runs beside a newer one.
type exception struct{ older, newer ref }

// excused reports whether all copies but the newest are there by a documented hole.
func (s *sim) excused(live []place) bool {
	newest := live[0]
	for _, p := range live {
		if p.p.n > newest.p.n {
			newest = p
		}
	}
	var older []place
	for _, p := range live {
		if p.p != newest.p {
			older = append(older, p)
		}
	}
	return s.excuse(newest.p.ref, older)
}

// excuse reports whether copies may run beside a newer one by a documented hole, and counts each such pair once. A pair
// that a hole let be stays excused: until there is a healer to end one of the two, nobody does.
func (s *sim) excuse(newer ref, older []place) bool {
	for _, p := range older {
		pair := exception{p.p.ref, newer}
		if s.excepted[pair] {
			continue
		}
		name := p.m.openHole(s.proofThatGone(p.p.ref, newer))
		if name == "" {
			return false
		}
		s.excepted[pair] = true
		s.holes[name]++
	}
	return true
}

// proofThatGone is what was taken for proof that a copy is gone, when the next attempt of the same workload was asked for.
// Newer may be another rank of its gang.
func (s *sim) proofThatGone(older, newer ref) autoheal.Proof {
	for n := older.n + 1; n <= newer.n; n++ {
		if proof, asked := s.proofs[ref{older.id, n}]; asked {
			return proof
		}
	}
	return autoheal.ProofNone
}

// proven notes with what proof an attempt was asked for.
func (s *sim) proven(a autoheal.Action) {
	if a.Verb == autoheal.Start {
		s.proofs[ref{autoheal.WorkloadID(a.Target.ID), a.Params.Attempt}] = a.Params.Proof
	}
}
