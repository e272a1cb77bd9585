package journal

import (
	"errors"
	"fmt"
)

// ErrStopped is the answer to Append after an Append that failed: what the disk holds is not known to the caller any
// more, so it must Recover and replay first.
var ErrStopped = errors.New("the journal stopped after a failed append")

// Head is the end of a journal: the last record's Seq, Step and Epoch, all zero when it is empty.
type Head struct{ Seq, Step, Epoch uint64 }

// CheckStep tells why the records may not follow h as one Step: a gap or a repetition in Seq, more than one Step, a Step
// or an Epoch that goes back, a version or a type that is not ours.
func (h Head) CheckStep(step []Record) error {
	for i, r := range step {
		switch want := h.Seq + uint64(i) + 1; {
		case r.Seq != want:
			return fmt.Errorf("record %d of type %s: the next record is %d: no gaps, no repetitions", r.Seq, r.Type, want)
		case r.V != Version:
			return fmt.Errorf("record %d has version %d, want %d", r.Seq, r.V, Version)
		case r.Step != step[0].Step:
			return fmt.Errorf("record %d belongs to step %d, the append to step %d", r.Seq, r.Step, step[0].Step)
		case r.Step <= h.Step:
			return fmt.Errorf("record %d belongs to step %d, but step %d is already written", r.Seq, r.Step, h.Step)
		case r.Epoch < h.Epoch:
			return fmt.Errorf("record %d has epoch %d, but epoch %d has already written: another healer took over", r.Seq, r.Epoch, h.Epoch)
		case r.Data == nil:
			return fmt.Errorf("record %d of type %s has no data", r.Seq, r.Type)
		case r.Data.Type() != r.Type:
			return fmt.Errorf("record %d of type %s has data of type %s", r.Seq, r.Type, r.Data.Type())
		case decoders[r.Type] == nil:
			return fmt.Errorf("record %d has type %s, which has no decoder", r.Seq, r.Type)
		}
	}
	return nil
}

// CheckSnapshot tells why r may not follow h as the snapshot of a compaction.
func (h Head) CheckSnapshot(r Record) error {
	if r.Incident != "" {
		return fmt.Errorf("record %d is a snapshot of one incident", r.Seq)
	}
	if r.Type != TypeSnapshot {
		return fmt.Errorf("record %d of type %s is not a snapshot", r.Seq, r.Type)
	}
	return h.CheckStep([]Record{r})
}

// After returns the head behind a Step that CheckStep accepted.
func (h Head) After(step []Record) Head {
	if len(step) == 0 {
		return h
	}
	last := step[len(step)-1]
	return Head{Seq: last.Seq, Step: last.Step, Epoch: last.Epoch}
}

// Life is what the records of one incident say about whether it goes on: fold them in order with Next.
type Life struct{ opened, ended bool }

// Next returns the life after r.
func (l Life) Next(r Record) Life {
	switch p := r.Data.(type) {
	case IncidentOpened:
		l.opened, l.ended = true, false
	case IncidentPhase:
		l.ended = p.To.Ended()
	case IncidentMerged:
		l.ended = true
	}
	return l
}

// Open tells whether the incident goes on. Its records are kept by every compaction, however old they are.
func (l Life) Open() bool { return l.opened && !l.ended }

// LifeTypes returns the types of records that Life looks at, so that a store need not decode the others.
func LifeTypes() []Type {
	return []Type{TypeIncidentOpened, TypeIncidentPhase, TypeIncidentMerged}
}
