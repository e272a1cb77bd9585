package cli

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"autoheal.dev/autoheal/internal/tool"
	"charm.land/lipgloss/v2"
	"charm.land/lipgloss/v2/table"
)

// page collects what is shown to a person. Every text passes tool.Printable on its way in, so that nothing untrusted
// reaches the terminal as it came.
type page struct {
	buf   bytes.Buffer
	color bool
	now   time.Time
}

// line writes one line.
func (p *page) line(format string, args ...any) {
	p.buf.WriteString(tool.Printable(fmt.Sprintf(format, args...)) + "\n")
}

// gap writes an empty line between parts.
func (p *page) gap() {
	if p.buf.Len() > 0 {
		p.buf.WriteByte('\n')
	}
}

// head writes the title of a part.
func (p *page) head(title string) {
	p.gap()
	p.buf.WriteString(p.paint(tool.Printable(title), lipgloss.NewStyle().Bold(true)) + "\n")
}

// text writes text of several lines.
func (p *page) text(s string) {
	p.buf.WriteString(strings.TrimRight(printableLines(s), "\n") + "\n")
}

// fields writes names with their values, aligned; pairs with an empty value are left out.
func (p *page) fields(pairs ...string) {
	var rows [][]string
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			rows = append(rows, []string{pairs[i] + ":", pairs[i+1]})
		}
	}
	p.rows(nil, rows)
}

// table writes a table, or a sentence when there is nothing in it.
func (p *page) table(none string, headers []string, rows [][]string) {
	if len(rows) == 0 {
		p.line("%s", none)
		return
	}
	p.rows(headers, rows)
}

func (p *page) rows(headers []string, rows [][]string) {
	if len(rows) == 0 {
		return
	}
	clean := make([][]string, len(rows))
	for i, row := range rows {
		clean[i] = make([]string, len(row))
		for j, cell := range row {
			if clean[i][j] = tool.Printable(cell); cell == "" {
				clean[i][j] = "-"
			}
		}
	}
	t := table.New().Border(lipgloss.Border{}).BorderTop(false).BorderBottom(false).BorderLeft(false).BorderRight(false).
		BorderHeader(false).BorderColumn(false).Rows(clean...).
		StyleFunc(func(row, col int) lipgloss.Style {
			s := lipgloss.NewStyle().PaddingRight(2)
			if !p.color {
				return s
			}
			if row == table.HeaderRow {
				return s.Bold(true)
			}
			return s.Inherit(wordStyle(clean[row][col]))
		})
	if headers != nil {
		t = t.Headers(headers...)
	}
	for l := range strings.Lines(t.Render()) {
		p.buf.WriteString(strings.TrimRight(strings.TrimSuffix(l, "\n"), " ") + "\n")
	}
}

func (p *page) paint(s string, style lipgloss.Style) string {
	if !p.color {
		return s
	}
	return style.Render(s)
}

var (
	good = lipgloss.NewStyle().Foreground(lipgloss.Green)
	warn = lipgloss.NewStyle().Foreground(lipgloss.Yellow)
	bad  = lipgloss.NewStyle().Foreground(lipgloss.Red)
)

// words are the states that have a colour. The word itself always says the same as its colour.
var words = map[string]lipgloss.Style{
	"ready": good, "running": good, "recovered": good, "ok": good, "succeeded": good, "cleared": good, "healthy": good,
	"not_ready": warn, "cordoned": warn, "draining": warn, "pending": warn, "scheduled": warn, "suspected": warn,
	"recovering": warn, "warning": warn, "degraded": warn, "paused": warn,
	"offline": bad, "failed": bad, "escalated": bad, "critical": bad, "unhealthy": bad,
}

func wordStyle(cell string) lipgloss.Style {
	word, _, _ := strings.Cut(cell, " ")
	return words[strings.TrimSuffix(word, ",")]
}

// ago writes how long ago t was, in one unit; "-" when unknown.
func (p *page) ago(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return span(p.now.Sub(t))
}

// until writes how long it is until t.
func (p *page) until(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return "in " + span(t.Sub(p.now))
}

func span(d time.Duration) string {
	switch {
	case d < 0:
		return "0s"
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}
