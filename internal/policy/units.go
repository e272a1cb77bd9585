package policy

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// maxDuration bounds every duration, so that sums and small multiples of settings cannot overflow.
const maxDuration = 3650 * day

var dayRE = regexp.MustCompile(`^([0-9]+(?:\.[0-9]+)?)d(.*)$`)

// ParseDuration reads a duration in Go's syntax plus "d" for days, which must come first: 90s, 1h30m, 7d, 1d12h. A unit
// is required and a sign is refused.
func ParseDuration(s string) (time.Duration, error) {
	if s == "" || strings.ContainsAny(s, "+-") || s == "0" {
		return 0, errors.New("not a duration")
	}
	var days float64
	rest := s
	if m := dayRE.FindStringSubmatch(s); m != nil {
		var err error
		if days, err = strconv.ParseFloat(m[1], 64); err != nil || days > float64(maxDuration/day) {
			return 0, errors.New("longer than ten years")
		}
		rest = m[2]
	}
	d := time.Duration(math.Round(days * float64(day)))
	if rest != "" {
		r, err := time.ParseDuration(rest)
		if err != nil {
			return 0, errors.New("not a duration")
		}
		if r > maxDuration {
			return 0, errors.New("longer than ten years")
		}
		d += r
	}
	if d > maxDuration {
		return 0, errors.New("longer than ten years")
	}
	return d, nil
}

// FormatDuration writes a duration as short as it can be read back: 2m, 1h30m, 7d. A single day stays 24h.
func FormatDuration(d time.Duration) string {
	if d >= 2*day && d%day == 0 {
		return strconv.FormatInt(int64(d/day), 10) + "d"
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

var (
	sizeRE    = regexp.MustCompile(`^([0-9]{1,19})(B|KiB|MiB|GiB|TiB)$`)
	sizeUnits = []struct {
		name  string
		bytes int64
	}{{"TiB", 1 << 40}, {"GiB", gib}, {"MiB", mib}, {"KiB", 1 << 10}, {"B", 1}}
)

// ParseSize reads a size such as 512MiB into bytes. The unit is one of B, KiB, MiB, GiB, TiB and required.
func ParseSize(s string) (int64, error) {
	m := sizeRE.FindStringSubmatch(s)
	if m == nil {
		return 0, errors.New("not a size")
	}
	n, err := strconv.ParseInt(m[1], 10, 64)
	if err != nil {
		return 0, errors.New("too large")
	}
	for _, u := range sizeUnits {
		if u.name == m[2] {
			if n > math.MaxInt64/4/u.bytes {
				return 0, errors.New("too large")
			}
			return n * u.bytes, nil
		}
	}
	return 0, errors.New("not a size")
}

// FormatSize writes bytes in the largest unit that divides them.
func FormatSize(b int64) string {
	for _, u := range sizeUnits {
		if b >= u.bytes && b%u.bytes == 0 {
			return strconv.FormatInt(b/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(b, 10) + "B"
}

var percentRE = regexp.MustCompile(`^([0-9]{1,3}(?:\.[0-9]{1,4})?) ?%$`)

// parsePercent reads "5%" as 5.
func parsePercent(s string) (float64, error) {
	m := percentRE.FindStringSubmatch(s)
	if m == nil {
		return 0, errors.New("not a percentage")
	}
	f, err := strconv.ParseFloat(m[1], 64)
	if err != nil || f > 100 {
		return 0, errors.New("more than 100%")
	}
	return f, nil
}

// formatPercent writes 5 as "5%"; it rounds to the four decimals that parsePercent accepts.
func formatPercent(f float64) string {
	return strconv.FormatFloat(math.Round(f*1e4)/1e4, 'f', -1, 64) + "%"
}

// String returns the limit as it is written in a configuration: "5%" or "3".
func (l Limit) String() string {
	if l.Percent > 0 {
		return formatPercent(l.Percent)
	}
	return strconv.Itoa(l.Count)
}

// Of returns the limit for a whole: its share rounded down, or its count, but never less than least.
func (l Limit) Of(whole, least int) int {
	n := l.Count
	if l.Percent > 0 {
		// The addend keeps a share that is whole in decimals, such as 0.1 % of 1000, from falling below it in binary.
		n = int(math.Floor(float64(max(whole, 0))*l.Percent/100 + 1e-9))
	}
	return max(n, least)
}

// AtOnce returns how many of whole may be touched at the same time.
func (b Budget) AtOnce(whole int) int { return b.Concurrent.Of(whole, b.Min) }

// InHour returns how many of whole may be touched in an hour: at least twice the least at once (behaviour D4).
func (b Budget) InHour(whole int) int { return b.PerHour.Of(whole, 2*b.Min) }

// InDomain returns how many of a failure domain of that size may be touched at the same time.
func (b Budget) InDomain(size int) int { return b.PerDomain.Of(size, b.Min) }

var occurrencesRE = regexp.MustCompile(`^([0-9]{1,6}) +in +(\S+)$`)

// parseOccurrences reads "3 in 1h".
func parseOccurrences(s string) (Occurrences, error) {
	m := occurrencesRE.FindStringSubmatch(s)
	if m == nil {
		return Occurrences{}, errors.New("not a count in a time")
	}
	n, err := strconv.Atoi(m[1])
	if err != nil || n < 1 {
		return Occurrences{}, errors.New("the count is below 1")
	}
	d, err := ParseDuration(m[2])
	if err != nil {
		return Occurrences{}, fmt.Errorf("%q: %w", m[2], err)
	}
	if d <= 0 {
		return Occurrences{}, errors.New("the time is zero")
	}
	return Occurrences{Count: n, Window: d}, nil
}

// String returns "3 in 1h".
func (o Occurrences) String() string {
	return strconv.Itoa(o.Count) + " in " + FormatDuration(o.Window)
}

// Wait returns the wait before restart n, counted from 1, without the spread: it never shrinks as n grows and never
// exceeds Max.
func (b Backoff) Wait(n int) time.Duration {
	switch b.Kind {
	case BackoffNone:
		return 0
	case BackoffConstant:
		return b.Initial
	}
	w := float64(b.Initial)
	limit := float64(b.Max)
	for i := 1; i < n && w < limit && b.Factor > 1 && w > 0; i++ {
		w *= b.Factor
	}
	if w >= limit { // also keeps a Max that a float cannot hold exact
		return b.Max
	}
	return time.Duration(w)
}

// String returns the word that b stands for, or the map that says all of it.
func (b Backoff) String() string {
	if b == backoffOf(b.Kind) {
		return b.Kind
	}
	s := "{kind: " + b.Kind + ", initial: " + FormatDuration(b.Initial)
	if b.Kind == BackoffExponential {
		s += ", factor: " + formatFloat(b.Factor) + ", max: " + FormatDuration(b.Max)
	}
	return s + "}"
}

func formatFloat(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }
