package signal

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"autoheal.dev/autoheal"
)

// seeds adds every sample and look-alike of the catalogue, in the frames that logs put around them.
func seeds(f *testing.F, c *Catalogue) {
	frames := []string{"%", "[ 1843.308145] %", "Nov 14 10:46:51 host kernel: [1.5] %", "3,2212,4053155111,-;%", "<3>1 2024-11-14T10:46:51Z h kernel - - - %"}
	n := 0
	for _, r := range c.Rules() {
		lines := slices.Clone(r.Lookalikes)
		for _, s := range r.Samples {
			lines = append(lines, s.Text)
		}
		for _, line := range lines {
			f.Add([]byte(strings.ReplaceAll(frames[n%len(frames)], "%", line)))
			n++
		}
	}
}

// FuzzUnframe: no bytes break a frame, and what comes out is no longer than what went in.
func FuzzUnframe(f *testing.F) {
	seeds(f, builtin(f))
	for _, s := range []string{"[Thu Oct 10 03:06:53 2024] x", "[<    0.000012>] x", "10.0.0.5: kern: warning: [2024-11-14T10:46:51.123Z]: x", "\x1b[32m[ 1.5] \x1b[0mx", `6,1,2,-;a\x0ab\x`, "2024-10-10T03:06:53.1Z stderr P x", "19:14:43  x"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		before := bytes.Clone(line)
		fr := Unframe(line)
		if len(fr.Message) > len(line) {
			t.Errorf("%q became longer: %q", line, fr.Message)
		}
		if !bytes.Equal(before, line) {
			t.Errorf("%q was changed to %q", before, line)
		}
	})
}

// FuzzMatch: the search for words finds what asking every rule finds, on any bytes.
func FuzzMatch(f *testing.F) {
	c := builtin(f)
	seeds(f, c)
	f.Fuzz(func(t *testing.T, line []byte) {
		message := Unframe(line).Message
		for _, kind := range []Kind{KindKernel, KindWorkload, KindAny, kindProgram} {
			got, _ := c.Match(message, kind)
			want, _ := c.MatchNaively(message, kind)
			if got.Rule != want.Rule || got.Code != want.Code {
				t.Errorf("%q as %s: %s, by the loop over all rules %s", message, kind, nameOf(got.Rule), nameOf(want.Rule))
			}
		}
	})
}

// FuzzExcerpt: any text gets one verdict, of the closed sets, that can be printed on a terminal.
func FuzzExcerpt(f *testing.F) {
	c := builtin(f)
	seeds(f, c)
	f.Add([]byte("[1.5] NVRM: The NVIDIA GPU 0000:b3:00.0\nNVRM: fallen off the bus and is not responding to commands.\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		book := NewBook(BookOptions{Entries: 8, Texts: 2})
		for _, found := range c.Excerpt(text, KindAny, nil) {
			book.Add(found)
		}
		v := book.Verdict()
		if !slices.Contains(autoheal.Failures(), v.Failure) || !slices.Contains(autoheal.Advices(), v.Action) {
			t.Errorf("%s %s", v.Failure, v.Action)
		}
		if v.Confidence < 0 || v.Confidence > 1 || len(v.Because) == 0 || len(book.Entries()) > 8 {
			t.Errorf("%+v, %d entries", v, len(book.Entries()))
		}
		if s := strings.Join(v.Because, ""); strings.ContainsAny(s, "\n\x1b\x07\x00") {
			t.Errorf("unprintable: %q", s)
		}
	})
}

// FuzzRules: a site's own rules are taken or refused, whatever they are.
func FuzzRules(f *testing.F) {
	c := builtin(f)
	f.Add([]byte(`[{id: site/x, literals: [some words], failure: disk, action: none, pattern: "(?P<a>x)", samples: [{text: some words x, fields: {a: x}}]}]`))
	f.Add([]byte(`[{id: nvidia/xid, action: none}, {id: disk/io_error, kind: any, ttl: 5m, priority: 3, table: xid, by: code}]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var rules []map[string]any
		if len(data) > 4096 || yaml.Unmarshal(data, &rules) != nil {
			return
		}
		with, err := c.With(Overrides{Rules: rules})
		if err != nil {
			if err.Error() == "" {
				t.Error("refused without a word")
			}
			return
		}
		for _, r := range with.Rules() {
			if bad := r.test(); len(bad) > 0 {
				t.Errorf("%s was taken: %s", r.ID, bad[0])
			}
		}
	})
}
