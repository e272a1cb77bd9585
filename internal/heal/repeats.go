package heal

import (
	"slices"
	"time"

	"autoheal.dev/autoheal"
)

// sort is what makes an incident a repetition of another.
type sort struct {
	kind    autoheal.FailureKind
	subject string
}

// repeatsIn is how far back repetitions are counted.
const repeatsIn = 30 * 24 * time.Hour

// repeats counts the incidents of a kind on a subject within the 30 days before now.
func (x *index) repeats(kind autoheal.FailureKind, subject autoheal.Ref, now time.Time) int {
	n := 0
	for _, at := range x.opened[sort{kind, subject.String()}] {
		if now.Sub(at) <= repeatsIn {
			n++
		}
	}
	return n
}

// setOpened notes when an incident was opened, and forgets what is too long ago.
func (x *index) setOpened(i *incident) {
	k := sort{i.Kind, i.Subject.String()}
	x.opened[k] = slices.DeleteFunc(append(x.opened[k], i.Opened), func(t time.Time) bool { return i.Opened.Sub(t) > repeatsIn })
}
