package tool

import (
	"context"
	"errors"
	"time"

	"autoheal.dev/autoheal"
)

// recheck bounds how long follow trusts the stream of changes alone.
const recheck = 5 * time.Second

// everything is every change.
func everything(autoheal.Change) bool { return true }

// follow calls done at once and after every change that matters until it returns true or an error, or wait is over; running
// out of time is no error. The stream is renewed now and then, so that a change lost on the way delays and never hangs.
func follow(ctx context.Context, env *Env, wait time.Duration, matters func(autoheal.Change) bool, done func(context.Context) (bool, error)) error {
	if ok, err := done(ctx); ok || err != nil || wait <= 0 {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	for limited.Err() == nil {
		ok, err := followOnce(limited, env, matters, done)
		if limited.Err() != nil && ctx.Err() == nil {
			_, err := done(ctx) // one last look, for the report
			return err
		}
		if ok || err != nil {
			return err
		}
	}
	return ctx.Err()
}

func followOnce(ctx context.Context, env *Env, matters func(autoheal.Change) bool, done func(context.Context) (bool, error)) (bool, error) {
	stream, cancel := context.WithTimeout(ctx, recheck)
	defer cancel()
	for ch, err := range env.Healer.Changes(stream) {
		if err != nil && stream.Err() == nil && !errors.Is(err, context.DeadlineExceeded) {
			return false, err
		}
		if err != nil {
			break
		}
		if ch.Type != autoheal.ChangeSubscribed && ch.Type != autoheal.ChangeLost && !matters(ch) {
			continue
		}
		if ok, err := done(ctx); ok || err != nil {
			return ok, err
		}
	}
	if ctx.Err() != nil {
		return false, nil
	}
	if stream.Err() == nil { // the stream ended by itself: without it this would spin
		return false, &autoheal.Error{Kind: autoheal.ErrUnavailable, Op: "follow changes", Detail: "the healer ended the stream: it is stopping"}
	}
	return done(ctx)
}

// seenWithin is how long a verb that changed a workload waits until the healer has seen the change, so that whoever asks
// next is not told of the time before. It is a courtesy: what was done is done all the same.
const seenWithin = 2 * time.Second

// seen waits until the healer sees a workload as it is to be, or until it cannot tell.
func seen(ctx context.Context, env *Env, id autoheal.WorkloadID, as func(autoheal.WorkloadView) bool) {
	this := func(ch autoheal.Change) bool {
		return ch.Subject.Kind == autoheal.RefWorkload && ch.Subject.ID == string(id)
	}
	_ = follow(ctx, env, seenWithin, this, func(ctx context.Context) (bool, error) {
		w, err := findWorkload(ctx, env, string(id))
		if autoheal.KindOf(err) == autoheal.ErrNotFound {
			return false, nil
		}
		return err == nil && as(w), err
	})
}
