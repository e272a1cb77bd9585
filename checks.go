package autoheal

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// CheckKind is how a workload is checked.
type CheckKind string

// Kinds of checks: the first three of health, the others of progress.
const (
	CheckExec   CheckKind = "exec"   // a command of its own that ends with exit status 0
	CheckHTTP   CheckKind = "http"   // a GET that is answered with a status from 200 to 399
	CheckTCP    CheckKind = "tcp"    // a port that accepts a connection
	CheckLog    CheckKind = "log"    // lines of its output that match a pattern
	CheckFile   CheckKind = "file"   // a file whose size or date changes
	CheckMetric CheckKind = "metric" // a metric that it offers, whose value changes
)

// HealthSpec is how a workload is asked whether it does its work (behaviour E6). Failures in a row make it unhealthy;
// until it has passed once, or Startup is over, failures do not count.
type HealthSpec struct {
	Kind     CheckKind     `json:"kind"`
	Exec     []string      `json:"exec,omitempty"`
	Port     int           `json:"port,omitempty"` // on the loopback of its node
	Path     string        `json:"path,omitempty"`
	Interval time.Duration `json:"interval"`
	Timeout  time.Duration `json:"timeout"`
	Failures int           `json:"failures"`
	Startup  time.Duration `json:"startup"`
}

// ProgressSpec is how a workload shows that it gets on; without any for Stall it is stalled (behaviour E6).
type ProgressSpec struct {
	Kind    CheckKind     `json:"kind"`
	Pattern string        `json:"pattern,omitempty"` // of log, an RE2 expression
	File    string        `json:"file,omitempty"`    // absolute, or below its working folder
	Port    int           `json:"port,omitempty"`    // of metric: where it offers its metrics, on the loopback of its node
	Path    string        `json:"path,omitempty"`
	Metric  string        `json:"metric,omitempty"`
	Stall   time.Duration `json:"stall"`
	Startup time.Duration `json:"startup"` // until its first progress it may take that long
}

// What checks do when their labels do not say otherwise.
const (
	DefaultCheckInterval = 10 * time.Second
	DefaultCheckTimeout  = 3 * time.Second
	DefaultCheckFailures = 3
	DefaultCheckStartup  = 10 * time.Minute
	DefaultStall         = 3 * time.Minute
)

// CheckFailure is what a workload's own checks hold against an attempt that runs.
type CheckFailure struct {
	What     CheckOutcome `json:"what"`
	Since    time.Time    `json:"since"`    // of the first failure in the row, or of the last progress
	Failures int          `json:"failures"` // in a row; 0 for a stall
	Reason   string       `json:"reason"`
	Output   string       `json:"output,omitempty"` // what the last check said; untrusted
}

// CheckOutcome is what a check found wrong.
type CheckOutcome string

// Outcomes.
const (
	Unhealthy CheckOutcome = "unhealthy"
	Stalled   CheckOutcome = "stalled"
)

// checkSettings are what the labels of checks say, before they are put together.
type checkSettings struct {
	health   HealthSpec
	progress ProgressSpec
	said     []string // keys that mean nothing alone
}

var checkLabels = map[string]func(*checkSettings, string) error{
	LabelHealth:         func(c *checkSettings, v string) error { return parseHealth(&c.health, v) },
	LabelHealthInterval: func(c *checkSettings, v string) error { return parseSpan(&c.health.Interval, v, 100*time.Millisecond) },
	LabelHealthTimeout:  func(c *checkSettings, v string) error { return parseSpan(&c.health.Timeout, v, 10*time.Millisecond) },
	LabelHealthFailures: func(c *checkSettings, v string) error { return parseInt(&c.health.Failures, v, 1) },
	LabelHealthStartup:  func(c *checkSettings, v string) error { return parseSpan(&c.health.Startup, v, time.Second) },
	LabelProgress:       func(c *checkSettings, v string) error { return parseProgress(&c.progress, v) },
	LabelProgressStall:  func(c *checkSettings, v string) error { return parseSpan(&c.progress.Stall, v, time.Second) },
	LabelProgressStart:  func(c *checkSettings, v string) error { return parseSpan(&c.progress.Startup, v, time.Second) },
}

// put hands the checks over to the options; refuse is told of what does not fit together.
func (c *checkSettings) put(o *WorkloadOptions, refuse func(key, detail string)) {
	for _, key := range c.said {
		if strings.HasPrefix(key, LabelHealth+"-") && c.health.Kind == "" {
			refuse(key, "it says how the health is checked, not what is: set "+LabelHealth)
		}
		if strings.HasPrefix(key, LabelProgress+"-") && c.progress.Kind == "" {
			refuse(key, "it says when a stall begins, not what progress is: set "+LabelProgress)
		}
	}
	if h := c.health; h.Kind != "" {
		h.Interval, h.Timeout = orElse(h.Interval, DefaultCheckInterval), orElse(h.Timeout, DefaultCheckTimeout)
		h.Failures, h.Startup = orElse(h.Failures, DefaultCheckFailures), orElse(h.Startup, DefaultCheckStartup)
		if h.Timeout > h.Interval {
			refuse(LabelHealthTimeout, fmt.Sprintf("%s is longer than the interval of %s: set %s too", h.Timeout, h.Interval, LabelHealthInterval))
		}
		o.Health = &h
	}
	if p := c.progress; p.Kind != "" {
		p.Stall, p.Startup = orElse(p.Stall, DefaultStall), orElse(p.Startup, DefaultCheckStartup)
		o.Progress = &p
	}
}

func orElse[T comparable](v, other T) T {
	var zero T
	if v == zero {
		return other
	}
	return v
}

// maxSpan bounds what a label may ask a check to wait.
const maxSpan = 30 * 24 * time.Hour

func parseSpan(dst *time.Duration, v string, least time.Duration) error {
	d, err := time.ParseDuration(v)
	if err != nil || d < least || d > maxSpan {
		return fmt.Errorf("use a duration from %s to %s, such as 10s or 5m", least, maxSpan)
	}
	*dst = d
	return nil
}

const healthForms = `use "http :8080/healthz", "tcp :9000" or "exec COMMAND ARGUMENT…"`

func parseHealth(h *HealthSpec, v string) error {
	kind, rest, _ := strings.Cut(strings.TrimSpace(v), " ")
	rest = strings.TrimSpace(rest)
	h.Kind = CheckKind(kind)
	var err error
	switch h.Kind {
	case CheckExec:
		h.Exec, err = parseArgv(rest)
	case CheckHTTP:
		h.Port, h.Path, err = parseAddress(rest, "/")
	case CheckTCP:
		var path string
		if h.Port, path, err = parseAddress(rest, ""); err == nil && path != "" {
			err = errors.New("a tcp check has a port and no path")
		}
	default:
		err = errors.New("unknown kind of check")
	}
	if err != nil {
		return fmt.Errorf("%w; %s", err, healthForms)
	}
	return nil
}

// parseAddress reads :PORT/PATH, where the path may be missing.
func parseAddress(s, otherwise string) (port int, path string, err error) {
	at, path, has := strings.Cut(s, "/")
	if path = "/" + path; !has {
		path = otherwise
	}
	number, ok := strings.CutPrefix(at, ":")
	port, convErr := strconv.Atoi(number)
	switch {
	case !ok:
		return 0, "", errors.New("a check asks the loopback of its node: begin with a colon and the port")
	case convErr != nil || port < 1 || port > 65535:
		return 0, "", fmt.Errorf("%q is no port from 1 to 65535", number)
	case strings.ContainsFunc(path, func(r rune) bool { return r <= ' ' || r > '~' || r == '#' }):
		return 0, "", fmt.Errorf("the path %q holds what no path of a request can hold", path)
	}
	return port, path, nil
}

// parseArgv reads a command: words between blanks, or a JSON list of them. There is no shell, and no quoting that looks
// like one.
func parseArgv(s string) ([]string, error) {
	var argv []string
	if strings.HasPrefix(s, "[") {
		if err := json.Unmarshal([]byte(s), &argv); err != nil {
			return nil, fmt.Errorf("the list of words is no JSON: %w", err)
		}
	} else {
		if strings.ContainsAny(s, "\"'`\\") {
			return nil, errors.New(`quotes mean nothing here: write the words as a JSON list, such as exec ["sh","-c","test -e up"]`)
		}
		argv = strings.Fields(s)
	}
	if len(argv) == 0 || argv[0] == "" {
		return nil, errors.New("no command is given")
	}
	for _, w := range argv {
		if strings.ContainsRune(w, 0) {
			return nil, errors.New("a word holds a NUL byte")
		}
	}
	return argv, nil
}

const progressForms = `use "log REGEX", "file PATH" or "metric :PORT/PATH NAME"`

var metricName = regexp.MustCompile(`^[a-zA-Z_:][a-zA-Z0-9_:]*$`)

// maxPattern bounds a pattern that every line of a workload's output is matched with.
const maxPattern = 512

func parseProgress(p *ProgressSpec, v string) error {
	kind, rest, _ := strings.Cut(strings.TrimSpace(v), " ")
	rest = strings.TrimSpace(rest)
	p.Kind = CheckKind(kind)
	var err error
	switch {
	case rest == "" && (p.Kind == CheckLog || p.Kind == CheckFile || p.Kind == CheckMetric):
		err = errors.New("it says nothing to look at")
	case p.Kind == CheckLog:
		p.Pattern = rest
		if _, err = regexp.Compile(rest); err == nil && len(rest) > maxPattern {
			err = fmt.Errorf("the pattern has %d bytes, at most %d are taken", len(rest), maxPattern)
		}
	case p.Kind == CheckFile:
		p.File = rest
		if strings.ContainsRune(rest, 0) {
			err = errors.New("the path holds a NUL byte")
		}
	case p.Kind == CheckMetric:
		at, name, _ := strings.Cut(rest, " ")
		if p.Port, p.Path, err = parseAddress(at, "/metrics"); err == nil {
			if p.Metric = strings.TrimSpace(name); !metricName.MatchString(p.Metric) {
				err = fmt.Errorf("%q is no name of a metric", p.Metric)
			}
		}
	default:
		err = errors.New("unknown kind of check")
	}
	if err != nil {
		return fmt.Errorf("%w; %s", err, progressForms)
	}
	return nil
}
