package tool

import (
	"strconv"
	"strings"
	"time"
)

// parseAge reads a duration in Go's syntax, or a whole number of days such as 7d.
func parseAge(param, s string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		if n, err := strconv.Atoi(days); err == nil && n > 0 && n <= 3650 {
			return time.Duration(n) * 24 * time.Hour, nil
		}
	}
	d, err := time.ParseDuration(s)
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

// ageText writes a duration as people say it: 1h, not 1h0m0s.
func ageText(d time.Duration) string {
	if d > 0 && d%(24*time.Hour) == 0 {
		return strconv.Itoa(int(d/(24*time.Hour))) + "d"
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
