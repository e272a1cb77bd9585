package heal

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"autoheal.dev/autoheal"
)

// block stops everything: no durable intent, no action (behaviour G1). What the step decided is dropped; the core, whose
// state is ahead of the journal now, only serves reads until it is rebuilt.
func (e *Engine) block(ctx context.Context, err error) {
	now := e.opt.Clock.Now()
	e.blocked = &autoheal.Held{Reason: autoheal.ReasonJournalUnwritable, Detail: err.Error(), Since: now, On: "disk"}
	e.opt.Logger.LogAttrs(ctx, slog.LevelError, "the journal cannot be written: nothing is done until it can", slog.Any("err", err))
	e.watch.stop()
	if e.opt.Blocked != nil {
		e.opt.Blocked(err)
	}
	for id := range e.waiting {
		e.answer(autoheal.Reply{Command: id, Err: e.unavailable()})
	}
}

func (e *Engine) unavailable() *autoheal.Error {
	return &autoheal.Error{Kind: autoheal.ErrUnavailable, Detail: fmt.Sprintf("%s: %s", e.blocked.Reason, e.blocked.Detail)}
}

// refuse answers what comes while blocked.
func (e *Engine) refuse(in Input) {
	for _, c := range in.Commands {
		e.answer(autoheal.Reply{Command: c.ID, Err: e.unavailable()})
	}
}

const writableAgain = "; it can be written again, healing resumes at "

// tryAgain writes to the journal until it holds for a while, then rebuilds the core from it and observes anew.
func (e *Engine) tryAgain(ctx context.Context) {
	now := e.opt.Clock.Now()
	if !e.blocked.Until.IsZero() { // writable: waiting out the dwell
		if now.Before(e.blocked.Until) {
			return
		}
		e.unblock(ctx)
		return
	}
	if err := e.opt.Store.Recover(ctx); err != nil {
		return
	}
	e.blocked.Until = now.Add(blockedDwell)
	why, _, _ := strings.Cut(e.blocked.Detail, writableAgain)
	e.blocked.Detail = why + writableAgain + e.blocked.Until.UTC().Format(time.TimeOnly)
}

func (e *Engine) unblock(ctx context.Context) {
	if err := e.restore(ctx); err != nil {
		e.blocked.Until = time.Time{}
		e.opt.Logger.LogAttrs(ctx, slog.LevelError, "the journal was written again but does not replay", slog.Any("err", err))
		return
	}
	e.drainInputs()
	e.blocked = nil
	e.opt.Logger.LogAttrs(ctx, slog.LevelInfo, "the journal can be written again: healing resumes")
	if e.opt.Blocked != nil {
		e.opt.Blocked(nil)
	}
	e.watch = startWatch(ctx, e.opt.Cluster, e.events, e.failed)
}

// drainInputs drops what belongs to the core that was given up.
func (e *Engine) drainInputs() {
	for {
		select {
		case <-e.events:
		case <-e.results:
		default:
			return
		}
	}
}
