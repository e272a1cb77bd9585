package openclaw

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/coder/websocket"

	"autoheal.dev/autoheal/internal/clock"
)

// LinkOptions bound one connection. Zero values take the defaults.
type LinkOptions struct {
	Clock        clock.Clock
	MaxQueued    int           // bytes waiting to be written; MaxBuffered by default
	MaxMessages  int           // messages waiting to be written; 1024 by default
	PingEvery    time.Duration // 25 s by default
	PongTimeout  time.Duration // 25 s by default
	WriteTimeout time.Duration // of one message; 30 s by default

	// Raw is the transport below the WebSocket. Closing it is the only way to cut a connection without a wait for the
	// other side, which may be stopped.
	Raw io.Closer
}

// closeGrace is how long a closing link waits for the peer's answer.
const closeGrace = time.Second

func (o LinkOptions) withDefaults() LinkOptions {
	if o.Clock == nil {
		o.Clock = clock.Real{}
	}
	o.MaxQueued = orDefault(o.MaxQueued, MaxBuffered)
	o.MaxMessages = orDefault(o.MaxMessages, 1024)
	o.PingEvery = orDefault(o.PingEvery, 25*time.Second)
	o.PongTimeout = orDefault(o.PongTimeout, 25*time.Second)
	o.WriteTimeout = orDefault(o.WriteTimeout, 30*time.Second)
	return o
}

func orDefault[T int | int64 | time.Duration](v, def T) T {
	if v <= 0 {
		return def
	}
	return v
}

// Causes with which a Link ends by itself.
var (
	ErrSlowPeer = errors.New("peer does not read: too much is queued for it")
	ErrNoPong   = errors.New("peer did not answer a ping in time")
)

// Link is one WebSocket connection after (or, in a gateway, during) the handshake: a reader that never waits for the
// writer, a bounded queue, pings in both directions. A peer that reads too slowly is cut off and delays nobody.
type Link struct {
	ws   *websocket.Conn
	opts LinkOptions

	ctx    context.Context
	cancel context.CancelCauseFunc
	wake   chan struct{} // capacity 1: something was queued or the link is closing

	mu sync.Mutex
	// mu guards what follows.
	queue   [][]byte
	queued  int
	closing *websocket.CloseError // set by CloseSoon: written after the queue
}

// NewLink wraps a connection. Nothing runs before Run.
func NewLink(ws *websocket.Conn, opts LinkOptions) *Link {
	ctx, cancel := context.WithCancelCause(context.Background())
	return &Link{ws: ws, opts: opts.withDefaults(), ctx: ctx, cancel: cancel, wake: make(chan struct{}, 1)}
}

// Done is closed when the link has ended.
func (l *Link) Done() <-chan struct{} { return l.ctx.Done() }

// Run reads until the link ends, hands each message to handle, and returns why it ended (a websocket.CloseError where
// the peer said why). Handle must not block: nothing else is read meanwhile, not even pongs. When Run returns, the
// connection is closed and all goroutines of the link have ended.
func (l *Link) Run(ctx context.Context, handle func(message []byte)) error {
	stop := context.AfterFunc(ctx, func() { l.cancel(context.Cause(ctx)) })
	defer stop()
	stopCut := context.AfterFunc(l.ctx, l.closeRaw)
	defer stopCut()
	var wg sync.WaitGroup
	wg.Go(l.write)
	wg.Go(l.keepAlive)
	err := l.read(handle)
	l.cancel(err)
	_ = l.ws.CloseNow() // reports only that the peer is gone already
	wg.Wait()
	return err
}

func (l *Link) read(handle func([]byte)) error {
	for {
		kind, data, err := l.ws.Read(l.ctx)
		if err != nil {
			if cause := context.Cause(l.ctx); cause != nil {
				return cause
			}
			return err
		}
		if kind != websocket.MessageText {
			return fmt.Errorf("read frame: %w: binary message", errNotAFrame)
		}
		handle(data)
	}
}

// Send queues a frame and never waits. It fails when the link has ended or the peer is too slow; in the latter case the
// link is cut.
func (l *Link) Send(f Frame) error {
	data, err := f.Encode()
	if err != nil {
		return err
	}
	if len(data) > MaxPayload {
		return fmt.Errorf("send frame: %d bytes exceed the limit of %d", len(data), MaxPayload)
	}
	return l.enqueue(data)
}

func (l *Link) enqueue(data []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx.Err() != nil || l.closing != nil {
		return fmt.Errorf("send frame: %w", ErrConnectionLost)
	}
	full := l.queued > 0 && l.queued+len(data) > l.opts.MaxQueued // one message alone always fits
	if full || len(l.queue) >= l.opts.MaxMessages {
		l.cancel(ErrSlowPeer)
		return fmt.Errorf("send frame: %w", ErrSlowPeer)
	}
	l.queue = append(l.queue, data)
	l.queued += len(data)
	l.signal()
	return nil
}

// Queued returns how many bytes wait to be written.
func (l *Link) Queued() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.queued
}

// CloseSoon writes what is queued, then closes with code and reason. It does not wait; Run returns when it is done.
func (l *Link) CloseSoon(code int, reason string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closing == nil {
		l.closing = &websocket.CloseError{Code: websocket.StatusCode(code), Reason: truncateReason(reason)}
		l.signal()
	}
}

// Cut ends the link at once.
func (l *Link) Cut(cause error) { l.cancel(cause) }

// signal wakes the writer; l.mu is held.
func (l *Link) signal() {
	select {
	case l.wake <- struct{}{}:
	default: // it has not seen the last one yet
	}
}

func (l *Link) next() (data []byte, closing *websocket.CloseError) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queue) == 0 {
		return nil, l.closing
	}
	data = l.queue[0]
	l.queue[0] = nil
	l.queue = l.queue[1:]
	return data, nil
}

// written gives the bytes of a message back to the queue's budget, after it left and not when it was picked up: what is
// stuck in a socket buffer counts as queued.
func (l *Link) written(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queued -= n
	if len(l.queue) == 0 {
		l.queue = nil // let a large backing array go
	}
}

func (l *Link) write() {
	for {
		data, closing := l.next()
		switch {
		case data != nil:
			if err := l.writeOne(data); err != nil {
				l.cancel(fmt.Errorf("write frame: %w", err))
				return
			}
		case closing != nil:
			l.closeNicely(closing)
			return
		default:
			select {
			case <-l.wake:
			case <-l.ctx.Done():
				return
			}
		}
	}
}

// closeNicely says goodbye; the reader, which still runs, takes the peer's answer.
func (l *Link) closeNicely(closing *websocket.CloseError) {
	ctx, cancel := context.WithTimeout(l.ctx, closeGrace)
	defer cancel()
	stop := context.AfterFunc(ctx, l.closeRaw)
	defer stop()
	_ = l.ws.Close(closing.Code, closing.Reason) // fails when the peer does not answer, which changes nothing
	l.cancel(*closing)
}

func (l *Link) closeRaw() {
	if l.opts.Raw != nil {
		_ = l.opts.Raw.Close() // it is being cut
	}
}

func (l *Link) writeOne(data []byte) error {
	ctx, cancel := context.WithTimeout(l.ctx, l.opts.WriteTimeout)
	defer cancel()
	err := l.ws.Write(ctx, websocket.MessageText, data)
	l.written(len(data))
	return err
}

// keepAlive cuts a link whose peer does not answer pings: a stopped process keeps its socket open for ever.
func (l *Link) keepAlive() {
	timer := l.opts.Clock.NewTimer(l.opts.PingEvery)
	defer timer.Stop()
	for {
		select {
		case <-timer.C():
		case <-l.ctx.Done():
			return
		}
		ctx, cancel := context.WithTimeout(l.ctx, l.opts.PongTimeout)
		err := l.ws.Ping(ctx)
		cancel()
		if err != nil {
			l.cancel(ErrNoPong)
			return
		}
		timer.Reset(l.opts.PingEvery)
	}
}

// truncateReason keeps a close reason within the 123 bytes that a close frame can hold.
func truncateReason(s string) string {
	const limit = 123
	if len(s) <= limit {
		return s
	}
	cut := limit
	for cut > 0 && s[cut]&0xC0 == 0x80 { // not within a rune
		cut--
	}
	return s[:cut]
}
