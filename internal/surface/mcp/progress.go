package mcp

import (
	"context"
	"sync"

	"autoheal.dev/autoheal"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// report tells the client what changes while a verb runs, until the function that it returns is called. It returns when
// nothing will be missed any more.
func report(ctx context.Context, h Healer, to *mcp.ServerSession, token any) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	listening := make(chan struct{})
	wg.Go(func() {
		begun := sync.OnceFunc(func() { close(listening) })
		defer begun()
		n := 0.0
		for ch, err := range h.Events(ctx, 0) {
			if err != nil {
				return // the verb itself says what is wrong
			}
			begun()
			if ch.Type == autoheal.ChangeSubscribed || ch.Type == autoheal.ChangeLost {
				continue
			}
			n++
			p := &mcp.ProgressNotificationParams{ProgressToken: token, Progress: n, Message: markedText(ch.Text)}
			if err := to.NotifyProgress(ctx, p); err != nil {
				return // nobody listens any more
			}
		}
	})
	<-listening
	return func() {
		cancel()
		wg.Wait()
	}
}
