package client

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strconv"
	"strings"

	"autoheal.dev/autoheal"
)

// maxEvent bounds one line of the stream.
const maxEvent = 1 << 20

// Events yields the changes after since (0 = from now on) until ctx ends or the connection breaks; it yields the error
// and ends. The first change is ChangeSubscribed; ChangeLost means that some between since and now are no longer kept.
// To go on after a break, call it again with the Seq of the last change.
func (c *Client) Events(ctx context.Context, since uint64) iter.Seq2[autoheal.Change, error] {
	return func(yield func(autoheal.Change, error) bool) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+"/api/v1/events", nil)
		if err != nil {
			yield(autoheal.Change{}, fmt.Errorf("follow changes: %w", err))
			return
		}
		req.Header.Set("Accept", "text/event-stream")
		if since > 0 {
			req.Header.Set("Last-Event-ID", strconv.FormatUint(since, 10))
		}
		resp, err := c.http.Do(req)
		if err != nil {
			yield(autoheal.Change{}, c.unreachable(ctx, err))
			return
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			data, _ := io.ReadAll(io.LimitReader(resp.Body, maxEvent))
			yield(autoheal.Change{}, refusal(resp.StatusCode, data))
			return
		}
		c.readEvents(ctx, resp.Body, yield)
	}
}

// readEvents reads server-sent events: only data lines count here, each holds one whole change, and the rest
// (id, event, comments) repeats or keeps the connection alive.
func (c *Client) readEvents(ctx context.Context, body io.Reader, yield func(autoheal.Change, error) bool) {
	sc := bufio.NewScanner(body)
	sc.Buffer(make([]byte, 0, 4096), maxEvent)
	for sc.Scan() {
		data, ok := strings.CutPrefix(sc.Text(), "data:")
		if !ok {
			continue
		}
		var ch autoheal.Change
		if err := json.Unmarshal([]byte(data), &ch); err != nil {
			yield(autoheal.Change{}, fmt.Errorf("read event: %w", err))
			return
		}
		if !yield(ch, nil) {
			return
		}
	}
	err := sc.Err()
	if err == nil {
		err = io.EOF
	}
	yield(autoheal.Change{}, c.unreachable(ctx, err))
}
