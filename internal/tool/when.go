package tool

import (
	"strings"
	"time"

	"autoheal.dev/autoheal/internal/policy"
)

// parseAge reads a duration in Go's syntax, with d for days, such as 7d.
func parseAge(param, s string) (time.Duration, error) {
	d, err := policy.ParseDuration(s)
	if err != nil || d <= 0 {
		return 0, badParam(param, "Wrong value for parameter %s: %q is not a duration above zero, such as 30s, 5m, 1h or 7d", param, short(s))
	}
	return d, nil
}

// parseWhen reads a moment: now, an age such as 5m or -1h, or an ISO 8601 time. An empty s is the zero time.
func parseWhen(param, s string, now time.Time) (time.Time, error) {
	switch s {
	case "":
		return time.Time{}, nil
	case "now":
		return now, nil
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	d, err := parseAge(param, strings.TrimPrefix(s, "-"))
	if err != nil {
		return time.Time{}, badParam(param, "Wrong value for parameter %s: %q is neither an age such as 5m or -1h, nor now, nor a time such as 2026-01-02T15:04:05Z", param, short(s))
	}
	return now.Add(-d), nil
}
